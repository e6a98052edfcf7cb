"""What the values of a mask mean: class indices, one of them the background's, and 255 for pixels that do not count."""

from collections.abc import Sequence

IGNORED = 255  # a pixel that is neither trained on nor judged
NO_CLASS = 254  # in computations, what no pixel has
MOST_CLASSES = 254  # a pixel is one byte, and two of its values mean no class
# The names of the class that no mean counts, in lower case and without the underscores around them.
BACKGROUND = ("background", "bg", "void", "unlabeled", "unlabelled")


def background_of(names: Sequence[str]) -> int | None:
    """The index of the class that stands for everything else, by its name; None if there is none.

    >>> background_of(["cat", "_Background_"]), background_of(["cat", "dog"])
    (1, None)
    """
    return next((index for index, name in enumerate(names) if name.lower().strip("_ ") in BACKGROUND), None)
