"""See what a model does: `watch` its attention, or call a method by name, `explain.attention(model, images)`."""

from typing import Any

from vitral.base.lookup import find, names


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in names("explain.methods"):
        raise AttributeError(f"module 'vitral.explain' has no attribute {name!r}")
    return find("explain.methods", name, "method")
