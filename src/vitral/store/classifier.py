"""What a model carries besides its weights."""

from typing import TYPE_CHECKING, Any

from torch import nn

from vitral.base.preprocessing import Preprocessing

if TYPE_CHECKING:

    class Classifier(nn.Module):
        """A module with what travels with it."""

        classes: tuple[str, ...]
        preprocessing: Preprocessing
        provenance: dict[str, Any]
        code: dict[str, str]  # of a model of the reader's own only: file, name and hash
else:
    Classifier = nn.Module  # `dress` gives attributes to any module; it does not change its class


def numbered(count: int) -> list[str]:
    """What classes are called that nobody has named."""
    return [f"class {index}" for index in range(count)]
