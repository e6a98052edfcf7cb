"""`Classifier`: the type of a module that a record is attached to."""

from typing import TYPE_CHECKING, Any

from torch import nn

from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord

if TYPE_CHECKING:

    class Classifier(nn.Module):
        """A module with its record; the other attributes repeat what the record says."""

        record: ModelRecord
        classes: tuple[str, ...]
        preprocessing: Preprocessing
        provenance: dict[str, Any]
        code: dict[str, str]  # of the reader's own module only: file, name and hash
else:
    Classifier = nn.Module  # any module can have a record: its class stays what it is
