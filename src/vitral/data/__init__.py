"""Images and their labels, from a built-in set, a folder or a file."""

from typing import Annotated, Literal

from vitral.base.config import Option

OnBadImage = Annotated[
    Literal["fail", "skip"], Option("fail: stop at an image that cannot be read; skip: leave it out and list it.")
]
