"""Where a script stands (step, phase, cycle, grid), and the events of one call at that place. Nothing here has effects.

A call becomes all of its events or, when something in it cannot be used, none: they are drafted first, then recorded
in one commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from neural_plasticity.dashboard import values
from neural_plasticity.errors import HeadError, InputError
from neural_plasticity.events import Event, LogLine, PhaseEnded, PhaseStarted, phase_name
from neural_plasticity.heads import HeadId, head_ids

Shape = tuple[int, int]
_OPENS_A_CYCLE = ("analysis", "pruning")


@dataclass(frozen=True)
class Grid:
    """What is known of the model's layers × heads: ``stated`` once it is, and the least that the heads so far need."""

    stated: Shape | None = None
    source: str = ""  # who stated it, for errors
    least: Shape = (0, 0)

    @property
    def shape(self) -> Shape | None:
        """(layers, heads), None while unknown."""
        return None if self.stated is None else _larger(self.stated, self.least)

    def measured(self, shape: Shape, name: str) -> Grid:
        """The grid after a whole array (layers, heads) came; refuses one of another shape."""
        if self.stated is None:
            if shape[0] < self.least[0] or shape[1] < self.least[1]:
                raise HeadError(
                    f"{name}: expected at least {self.least[0]} layers × {self.least[1]} heads, which are on record, "
                    f"got an array of shape {shape}."
                )
            return replace(self, stated=shape, source=name)
        if shape not in (self.stated, self.shape):
            raise HeadError(
                f"{name}: expected an array of shape {self.shape} (layers, heads), as in {self.source}, got {shape}."
            )
        return self

    def holding(self, heads: Iterable[HeadId], name: str) -> Grid:
        """The grid after these heads were named; refuses those outside a grid that is known."""
        heads = tuple(heads)
        try:
            head_ids(heads, self.shape)
        except HeadError as error:
            raise HeadError(f"{name}: {error}") from error
        return self.with_added(heads)

    def with_added(self, heads: Iterable[HeadId]) -> Grid:
        """The grid after heads were added to the model, which may lie outside what it was."""
        least = self.least
        for layer, head in heads:
            least = _larger(least, (layer + 1, head + 1))
        return replace(self, least=least)


def _larger(one: Shape, other: Shape) -> Shape:
    return max(one[0], other[0]), max(one[1], other[1])


class Told(NamedTuple):
    """What the script last said of a head, and at which step."""

    on: bool
    step: int


@dataclass(frozen=True)
class Position:
    """The last step that was told, the phase and cycle it was in, and what the next call's place depends on."""

    step: int = -1
    phase: str = ""
    cycle: int = 0
    phase_cycle: int = 0  # the cycle in which the phase began
    phase_first: int = 0  # its first step
    phase_since: float = 0.0  # seconds on the caller's clock
    pruned: bool = False  # in this cycle
    moved: bool = False  # to another phase, since that
    any_pruned: bool = False
    losses: dict[str, float] = field(default_factory=dict)  # the last loss, while the phase lasts
    grid: Grid = field(default_factory=Grid)
    known: Mapping[HeadId, Told] = field(default_factory=dict)
    began_whole: bool = False  # the script said so: a sparsity of 0 before it told of any head that went

    def next_step(self, step: Any) -> int:
        """``step`` as a number; None is the step after the last one.

        Raises:
            InputError: not a whole number from 0 on.
        """
        if step is not None:
            return values.whole(step, "step")
        if self.step >= values.LAST_STEP:
            raise InputError("step: expected a number, since there is none after the last one.")
        return self.step + 1

    def at(self, step: int) -> Position:
        """Here at ``step``. A script that goes back may have put an earlier model back: what it told since is open."""
        if step >= self.step:
            return replace(self, step=step)
        known = {head: told for head, told in self.known.items() if told.step <= step}
        return replace(self, step=step, known=known, began_whole=self.began_whole and len(known) == len(self.known))


class Draft:
    """The events of one call. ``position`` moves as they are added, and counts once they are on record."""

    def __init__(self, position: Position, step: Any, now: float) -> None:
        self.position = position.at(position.next_step(step))
        self.now = now
        self.events: list[Event] = []

    def add(self, kind: type[Any], **fields: Any) -> None:
        """An event at the present place; ``fields`` may name another phase or cycle."""
        here = self.position
        place: dict[str, Any] = {
            "step": here.step,
            "phase": here.phase,
            "cycle": here.cycle,
            "phase_step": max(0, here.step - here.phase_first) if here.phase else 0,
        }
        self.events.append(kind(**{**place, **fields}))

    def move(self, **changes: Any) -> None:
        """Change the position."""
        self.position = replace(self.position, **changes)

    def enter(self, phase: Any, name: str = "phase") -> None:
        """A phase transition, which ends the one before; ``analysis`` or ``pruning`` after a pruning opens a cycle."""
        entered = phase_name(values.text(phase, name))
        if not entered:
            raise InputError(f"{name}: expected the name of a phase, got an empty one.")
        here = self.position
        if here.phase and here.phase != entered:
            self.add(
                PhaseEnded, cycle=here.phase_cycle, seconds=max(0.0, self.now - here.phase_since), summary=here.losses
            )
        if here.phase != entered:
            opens = entered in _OPENS_A_CYCLE and (here.cycle == 0 or here.pruned)
            self.move(cycle=here.cycle + 1, pruned=False) if opens else None
            self.move(phase=entered, phase_first=here.step, phase_since=self.now, moved=True, losses={})
            self.move(phase_cycle=self.position.cycle)
        self.add(PhaseStarted)

    def whole(self) -> None:
        """The script says that no head is off; that counts unless it has told of some that are."""
        if all(told.on for told in self.position.known.values()):
            self.move(began_whole=True)

    def switch(self, named: Iterable[HeadId], on: bool, name: str, new: bool = False) -> tuple[HeadId, ...]:
        """Heads go off or on; ``new``: others than there were. Returns those that were not so already.

        Scripts that name all heads that are off, each time, are not wrong in a way that should stop a training: what
        was told before is left out, and said in a warning. Of a head that was not told of, nothing is known: a script
        may have gone on with a model that was pruned before.

        Raises:
            HeadError: one of them is named twice.
        """
        here = self.position
        known = dict(here.known)
        named = tuple(named)
        if len(set(named)) < len(named):
            twice = next(head for place, head in enumerate(named) if head in named[:place])
            raise HeadError(f"{name}: expected each head once, got {twice} twice.")
        so_already = [head for head in named if head in known and known[head].on == on]
        for head in so_already:
            before = (
                "came at step {:,} and has not been pruned" if on else "was pruned at step {:,} and has not come back"
            )
            self._warn(f"{name}: {head} {before.format(known[head].step)} since; it is not counted again")
        unheard = [head for head in named if head not in known] if on and not new and here.began_whole else []
        for head in unheard:
            self._warn(f"{name}: {head} came back, but was never pruned; new heads go under 'added_heads'")
        changed = tuple(head for head in named if head not in so_already)
        self.move(known=known | dict.fromkeys(changed, Told(on, here.step)))
        return changed

    def _warn(self, message: str) -> None:
        self.add(LogLine, message=message, level="warning")

    def pruning_cycle(self, given: Any, name: str) -> None:
        """The cycle that a pruning belongs to: as given, else the next one when another phase lay between."""
        here = self.position
        if given is not None:
            cycle = values.whole(given, name)
        else:
            cycle = here.cycle + 1 if here.cycle == 0 or (here.pruned and here.moved) else here.cycle
        self.move(cycle=cycle, pruned=True, any_pruned=True, moved=False)


def heads(given: Any, name: str) -> tuple[HeadId, ...]:
    """Heads however they are written: ``(layer, head)``, ``[layer, head]``, ``"layer.head"``, or an array (n, 2).

    Raises:
        InputError: no list, or one of them cannot be read.
    """
    if hasattr(given, "detach") or hasattr(given, "__array__"):
        listed: Any = values.array(given, name, 2, "(heads, 2) of layer and head").tolist()
    else:
        listed = sorted(given, key=str) if isinstance(given, set | frozenset) else values.sequence(given, name)
    return tuple(one_head(one, f"{name}[{place}]") for place, one in enumerate(listed))


def one_head(given: Any, name: str) -> HeadId:
    """One head, however it is written.

    Raises:
        InputError: it cannot be read.
    """
    parts = given
    if not isinstance(given, str):
        if hasattr(given, "tolist"):
            parts = given.tolist()
        try:
            parts = [values.whole(part, name) for part in parts]
        except TypeError:
            parts = ()
    try:
        (found,) = head_ids([parts])
    except HeadError as error:
        raise HeadError(f"{name}: expected (layer, head) or 'layer.head', got {values.shown(given)}.") from error
    return found
