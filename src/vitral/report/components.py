"""Parts of pages that move: JavaScript modules of the folder `components`, which reports share with the explorer.

Joining modules needs no tool: each imports only from those before it, so their lines stand one after another, without
the imports and the word `export`.
"""

import re
from collections.abc import Iterable
from importlib import resources

IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(async )?function|const|class)", re.MULTILINE)


def has_component(name: str) -> bool:
    """Whether the folder has a file of this name."""
    return (resources.files("vitral.report") / "components" / name).is_file()


def read_component(name: str) -> str:
    """A file of the folder."""
    return (resources.files("vitral.report") / "components" / name).read_text(encoding="utf-8")


def join_modules(codes: Iterable[str]) -> str:
    """Modules, in the order of their imports, as one script."""
    return "".join(EXPORT.sub("", IMPORT.sub("", code)) for code in codes)
