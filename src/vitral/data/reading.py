"""How the files of a data set are read: what happens to bad ones, who is told, and where decoded images are kept."""

from collections.abc import Callable
from dataclasses import dataclass

from vitral.base.errors import UsageError
from vitral.data.pixel_cache import PixelCache
from vitral.data.table_file import Report

Count = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reading:
    """`report` gets each sentence that the user should know, `count` how many images of a kind have been read.

    Raises `UsageError` unless `on_bad_image` is "fail" or "skip": anything else would silently mean one of them.
    """

    on_bad_image: str = "fail"
    report: Report = lambda sentence: None
    count: Count = lambda what, done, total: None
    cache: PixelCache | None = None

    def __post_init__(self) -> None:
        check_on_bad_image(self.on_bad_image)


def check_on_bad_image(on_bad_image: str) -> None:
    """Raise `UsageError` unless it is "fail" or "skip"."""
    if on_bad_image not in ("fail", "skip"):
        raise UsageError(f"on_bad_image={on_bad_image!r} is not supported. Choices: fail, skip.")
