"""``python -m tests.fuzz.campaign --inputs 100000 --seed 0``: every target in turn, a count as it goes, what it found.

Inputs follow from the seed and the round's number, so that a campaign that was stopped goes on with ``--round``. What
breaks the law is told once for each place in the code, with the smallest input that did; exit code 1 then.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

ROUND = 100  # inputs of one target before the next one has its turn

Found = dict[str, str]  # place in the code -> how it came about


def round_of(target: Target, inputs: int, seed: int, outcomes: Counter[str], found: Found) -> None:
    """``inputs`` inputs: counts how they came out, and keeps what broke the law."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=inputs, database=None, deadline=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.tuples(*target.inputs))
    def law(drawn: tuple[Any, ...]) -> None:
        try:
            errors = target.one(*drawn)
        except Exception as error:
            outcomes["BROKEN"] += 1
            told = f"{drawn!r}"[:2_000] + "\n" + "".join(traceback.format_exception(error)[-6:])[:3_000]
            place = place_of(error)
            found[place] = min(found.get(place, told), told, key=len)
        else:
            outcomes[errors[0] if errors else "a result"] += 1

    law()


def place_of(error: BaseException) -> str:
    """The error, and where in this package it came up."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/neural_plasticity/" in frame.filename]
    at = f"{frames[-1].filename.rsplit('/neural_plasticity/', 1)[-1]}:{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__} at {at}"


def campaign(names: Sequence[str], inputs: int, seed: int, first: int, say: Callable[[str], Any]) -> int:
    """Run until so many inputs are through; returns how many different things were found."""
    began, number, told = time.monotonic(), first, 0.0
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    found: Found = {}
    done = 0
    while done < inputs:
        for name in names:
            known = set(found)
            target = TARGETS[name]
            round_of(target, ROUND * target.share, seed * 1_000_003 + number, outcomes[name], found)
            for place in found.keys() - known:
                say(f"FOUND in {name}, round {number}: {place}\n{found[place]}\n")
        number += 1
        done = sum(sum(counts.values()) for counts in outcomes.values())
        if time.monotonic() - told > 10 or done >= inputs:
            told = time.monotonic()
            say(f"{done:,} inputs in {told - began:,.0f} s, {len(found)} findings; next: --round {number}\n")
    for name, counts in outcomes.items():
        say(f"{name}: {sum(counts.values()):,} inputs: " + ", ".join(f"{n:,} {how}" for how, n in counts.most_common()))
        say("\n")
    for place in found:
        say(f"FOUND {place}\n")
    return len(found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--round", type=int, default=0, help="the round to begin with")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one (may be repeated)")
    asked = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return 1 if campaign(asked.target or list(TARGETS), asked.inputs, asked.seed, asked.round, say) else 0


if __name__ == "__main__":
    sys.exit(main())
