"""Bytes that stand in a page as text."""

import zlib
from dataclasses import dataclass
from typing import Any

from vitral.explorer.base85 import encode


@dataclass(frozen=True)
class Content:
    """Deflated bytes in base 85, as rows of attention are stored: the text, and how many bytes it stands for."""

    text: str
    num_bytes: int

    @classmethod
    def of(cls, content: bytes) -> "Content":
        packed = zlib.compress(content, 6)
        return cls(encode(packed), len(packed))

    def to_json(self, name: str) -> dict[str, Any]:
        """How the page finds it: `name` is the element with the text."""
        return {"id": name, "bytes": self.num_bytes}
