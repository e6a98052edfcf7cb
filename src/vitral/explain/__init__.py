"""See what a model does, and whether to believe it: `explain.attention(model, images)`, `explain.score(...)`.

Methods and diagnostics are found by name in their folders: a file there is a method, and needs no other enrolment.
"""

from importlib import import_module
from typing import Any

from vitral.base.lookup import find, names

HOMES = {
    "RegionModel": "region",
    "observe": "observation",
    "score": "scoring",
    "query_grid": "query_maps",
    "side_by_side": "maps",
    "tested": "trials",
}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        found = getattr(import_module(f"vitral.explain.{HOMES[name]}"), name)
    elif not name.startswith("_") and name in names("explain.methods"):
        from vitral.explain.entry import explainer

        found = explainer(find("explain.methods", name, "method"))
    elif not name.startswith("_") and name in names("explain.diagnostics"):
        found = find("explain.diagnostics", name, "diagnostic")
    else:
        raise AttributeError(f"module 'vitral.explain' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES, *names("explain.methods"), *names("explain.diagnostics")})
