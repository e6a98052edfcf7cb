"""The errors, as a tree. Every message says what was requested, what was found and what to do.

VitralError
├── UsageError          the request is wrong: a name, an option, a combination of settings   (exit code 2)
│   ├── ConfigError     sizes or settings that are not valid, or not valid together
│   └── UnknownName     no such model, data set, method, ...; the message suggests the nearest name
└── Failure             the request is right, but it failed                                  (exit code 1)
    ├── ShapeError      a tensor or an image of a size that the model does not accept
    ├── ModelError      a model that raises an error of its own while it runs
    ├── ImageError      a file that is missing, not an image, or truncated
    ├── DataError       a data set that cannot be trained on
    ├── StoreError      a model file or run folder that is missing, damaged or of another kind
    ├── TrainingError   training cannot continue, for example after a loss that is not a number
    └── WatchError      no attention was recorded, or the record could not be verified
"""


class VitralError(Exception):
    """The root of all errors that the user can do something about."""

    exit_code = 1


class UsageError(VitralError, ValueError):
    """The request is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """Sizes or settings that are not valid, or not valid together."""


class UnknownName(UsageError):
    """A name that does not exist; the message suggests the nearest one."""


class Failure(VitralError, RuntimeError):
    """The request is right, but it failed."""


class ShapeError(Failure):
    """A tensor or an image of a size that the model does not accept."""


class ModelError(Failure):
    """A model that raises an error of its own while it runs."""


class ImageError(Failure):
    """A file that is missing, not an image, or truncated."""


class DataError(Failure):
    """A data set that cannot be trained on."""


class StoreError(Failure):
    """A model file or run folder that is missing, damaged or of another kind."""


class TrainingError(Failure):
    """Training cannot continue."""


class WatchError(Failure):
    """No attention was recorded, or the record could not be verified."""
