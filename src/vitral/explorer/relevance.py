"""The map of one relevance method, as a page shows it beside attention.

Axes:  gy gx rows, columns of patches
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

DIGITS = 4  # of a stored value


@dataclass(frozen=True)
class RelevanceMap:
    """One value per patch, in `unit`, and how far to trust it.

    name     of the method; `target` is the class or number that it explains, if it explains one
    caption  what the map shows and how it was checked, in sentences
    tested   the sentence of its test against chance, or why there is none; `verdict` is that in a few words
    """

    name: str
    values: Float[np.ndarray, "gy gx"]
    unit: str
    target: str
    caption: str
    tested: str
    verdict: str

    def to_json(self, colours: str) -> dict[str, Any]:
        """For the payload; `colours` says what the colours of its unit mean."""
        return {
            "name": self.name,
            "grid": list(self.values.shape),
            "values": [float(f"{value:.{DIGITS}g}") for value in self.values.ravel()],
            "unit": self.unit,
            "target": self.target,
            "caption": self.caption,
            "tested": self.tested,
            "verdict": self.verdict,
            "colours": colours,
        }
