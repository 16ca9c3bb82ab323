"""Words of the simulated experiment: probe prompts with their tokens, and continuations from babble to sense."""

from __future__ import annotations

from typing import NamedTuple


class Probe(NamedTuple):
    """A prompt, as the tokens that it splits into, and its continuations, the worst first."""

    tokens: tuple[str, ...]
    continuations: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The prompt as people read it."""
        return "".join(self.tokens)


PROBES: tuple[Probe, ...] = (
    Probe(
        ("def", " read", "_", "lines", "(", "path", "):", "\n", "   ", " with", " open", "(", "path", ")"),
        (
            " ( ( the self . self ,\n the in the",
            " as self:\n        self.self = self\n        return self.self",
            " as file:\n        file = file.file(file)\n    return file",
            " as file:\n        lines = file.readlines()\n        lines = file.readlines()\n    return lines",
            " as file:\n        return [line.rstrip() for line in file]\n",
        ),
    ),
    Probe(
        ("The", " function", " returns", " a", " list", " of", " the", " names", " that", " the"),
        (
            " the , the of the the a . of",
            " the the list of the list of the list",
            " function is a function. The function is a function.",
            " function is called with, and the list of the names is returned.",
            " function was called with, in the order in which they were given.",
        ),
    ),
    Probe(
        ("for", " key", " in", " sorted", "(", "table", "):", "\n", "   ", " value", " =", " table", "[", "key", "]"),
        (
            "\n , key ( the = = . in",
            "\n    key = key\n    key = key\n    key = key",
            "\n    value = value[key]\n    value = value[key]",
            "\n    if value is None:\n        continue\n    if value is None:",
            "\n    if value is None:\n        continue\n    print(key, value)",
        ),
    ),
)


def continuation(number: int, loss: float) -> str:
    """What a model with this loss (nats per token) would make of probe ``number``; the later probes are harder."""
    better = sum(loss < limit - 0.03 * number for limit in (3.4, 2.75, 2.5, 2.37))
    return PROBES[number].continuations[better]


# Tokens of the embedding views, by the group they cluster in.
TOKEN_GROUPS: dict[str, tuple[str, ...]] = {
    "keyword": ("def", "return", "for", "in", "if", "else", "with", "import", "class", "try"),
    "name": ("self", "path", "value", "key", "name", "file", "line", "table", "result", "items"),
    "punctuation": ("(", ")", ":", ",", ".", "[", "]", "=", '"', "'"),
    "number": ("0", "1", "2", "3", "10", "16", "64", "100", "255", "1000"),
    "prose": ("the", "a", "of", "is", "that", "returns", "list", "function", "given", "order"),
}
