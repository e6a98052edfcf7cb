"""See what a model does, and whether to believe it: `explain.attention(model, images)`, `explain.score(...)`.

Methods and diagnostics are found by name in their folders; a new file there is enrolled by being there.
"""

from typing import Any

from vitral.base.lookup import find, names

FOLDERS = {"explain.methods": "method", "explain.diagnostics": "diagnostic"}


def __getattr__(name: str) -> Any:
    if name == "score":
        from vitral.explain.scoring import score

        return score
    if not name.startswith("_"):
        for folder, kind in FOLDERS.items():
            if name in names(folder):
                return find(folder, name, kind)
    raise AttributeError(f"module 'vitral.explain' has no attribute {name!r}")
