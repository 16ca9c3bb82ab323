"""Every error that a user can meet, as one tree.

NeuralPlasticityError
├── InputError            what was given cannot be used: one line, exit code 2
│   ├── ConfigError       an option's value (names the flag)
│   ├── CorpusError       a data set or text file
│   ├── ModelError        a model that cannot be found or opened
│   │   └── UnsupportedModelError   an architecture whose heads cannot be reached
│   ├── HeadError         a head that does not exist, or a mask of the wrong shape
│   └── RecordError       a run directory that cannot be written, read or resumed
├── TrainingError         the run had to stop (NaN loss); what was recorded stays readable
└── PeerError             another process of the same run had to stop, and says why
"""

__all__ = [
    "ConfigError",
    "CorpusError",
    "HeadError",
    "InputError",
    "ModelError",
    "NeuralPlasticityError",
    "PeerError",
    "RecordError",
    "TrainingError",
    "UnsupportedModelError",
    "first_line",
]


class NeuralPlasticityError(Exception):
    """Root of every error raised on purpose by this package.

    Its message is one line and safe to print, whatever names and values from outside are quoted in it.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class InputError(NeuralPlasticityError, ValueError):
    """Something given by the user cannot be used; the message says what was expected and what came."""


class ConfigError(InputError):
    """An option has a value it cannot have; the message begins with the flag."""


class CorpusError(InputError):
    """A data set or text file is missing, empty, binary or too short."""


class ModelError(InputError):
    """A model cannot be found or opened."""


class UnsupportedModelError(ModelError):
    """The architecture's attention heads cannot be reached; the message names it and says why."""


class HeadError(InputError):
    """A head outside the model's grid, or a mask or score array of the wrong shape."""


class RecordError(InputError):
    """A run's record cannot be created, opened or understood."""


class PeerError(NeuralPlasticityError):
    """Another process of the same run had to stop; it says why, this one only ends."""


class TrainingError(NeuralPlasticityError):
    """The run had to stop; everything recorded so far stays readable."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name where it has none: for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
