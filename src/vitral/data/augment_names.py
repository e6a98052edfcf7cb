"""The names of augmentations, as `--augment` takes them. Imports nothing heavy: settings are checked at once."""

from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, names


def parse_augment(text: str) -> tuple[str, ...]:
    """The names in `NAME` or `NAME+NAME`, which are applied from left to right.

    Raises `UnknownName` for a name that does not exist, `ConfigError` for `none` beside others.

    >>> parse_augment("crop+horizontal_flip")
    ('crop', 'horizontal_flip')
    """
    found = tuple(name.strip() for name in text.split("+"))
    for name in found:
        check_name(name, names("data.augmentation"), "augmentation")
    if len(found) > 1 and "none" in found:
        raise ConfigError(f"--augment {text}: none leaves the images unchanged. Leave it out, or use it alone.")
    return found
