"""See what a model does, and whether to believe it: `explain.attention(model, images)`, `explain.score(...)`.

Methods and diagnostics are found by name in their folders; a new file there is enrolled by being there.
"""

from importlib import import_module
from typing import Any

from vitral.base.lookup import find, names

FOLDERS = {"explain.methods": "method", "explain.diagnostics": "diagnostic"}
OTHERS = {"score": "scoring", "query_grid": "queries", "side_by_side": "maps", "tested": "trust"}


def __getattr__(name: str) -> Any:
    if name in OTHERS:
        return getattr(import_module(f"vitral.explain.{OTHERS[name]}"), name)
    if not name.startswith("_"):
        for folder, kind in FOLDERS.items():
            if name in names(folder):
                return find(folder, name, kind)
    raise AttributeError(f"module 'vitral.explain' has no attribute {name!r}")
