"""What can go wrong, as a tree. Every message says what was asked, what was found and what to do.

VitralError
├── UsageError          the request cannot be right: a name, an option, a combination of settings   (exit code 2)
│   ├── ConfigError     sizes or settings that do not fit together
│   └── UnknownName     no such model, data set, method, ...; names the nearest known one
└── Failure             the request was right, but it could not be done                             (exit code 1)
    ├── ShapeError      a tensor or an image of a size the model does not take
    ├── ModelError      a model that raises an error of its own while it runs
    ├── ImageError      a file that is not an image, or only the beginning of one
    ├── DataError       a data set that cannot be learned from
    ├── StoreError      a model file or run folder that is missing, damaged or of another kind
    ├── TrainingError   training cannot go on (a loss that is not a number, say)
    └── WatchError      no attention was seen, or what was seen could not be verified
"""


class VitralError(Exception):
    """The root of everything Vitral raises for a reason its user can act on."""

    exit_code = 1


class UsageError(VitralError, ValueError):
    """The request cannot be right as it stands."""

    exit_code = 2


class ConfigError(UsageError):
    """Sizes or settings that do not fit together."""


class UnknownName(UsageError):
    """A name that is not known; the message gives the nearest one."""


class Failure(VitralError, RuntimeError):
    """The request was right, but it could not be done."""


class ShapeError(Failure):
    """A tensor or an image of a size the model does not take."""


class ModelError(Failure):
    """A model that raises an error of its own while it runs."""


class ImageError(Failure):
    """A file that is not an image, or only the beginning of one."""


class DataError(Failure):
    """A data set that cannot be learned from."""


class StoreError(Failure):
    """A model file or run folder that is missing, damaged or of another kind."""


class TrainingError(Failure):
    """Training cannot go on."""


class WatchError(Failure):
    """No attention was seen, or what was seen could not be verified."""
