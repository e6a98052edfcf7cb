"""Images and their labels, from a built-in set, a folder or a file."""

from typing import Annotated, Literal

from vitral.base.config import Option
from vitral.base.lookup import names

BUILT_IN = (*names("data.synthetic"), "digits")  # the sets that need no files
CHOICES = (
    f"a built-in data set ({', '.join(BUILT_IN)}; with options, as in shapes:size=64,n=10000), or a folder with class "
    "folders or a table of labels"
)
OnBadImage = Annotated[
    Literal["fail", "skip"], Option("fail: stop at an image that cannot be read; skip: leave it out and list it.")
]
