"""The page as one HTML file: the template, the style, the script and the payload, put into each other.

The script is a module in several files of the folder `page`, and of those that reports share (`report.components`).
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources

from vitral.explorer.payload import Payload
from vitral.explorer.still import Still
from vitral.report.components import has_component, join_modules, read_component

# In the order of their imports.
MODULES = (
    "base85",
    "decode",
    "layer",
    "pair",
    "view",
    "words",
    "similarity",
    "shown",
    "colours",
    "painter",
    "relevance",
    "painters",
    "pictures",
    "controls",
    "stage",
    "glance",
    "answers",
    "about_image",
    "forward",
    "broken",
    "break_it",
    "positions",
    "methods",
    "picture",
    "beside",
    "scale",
    "tokens",
    "png_text",
    "save",
    "explorer",
    "file_host",
)


def read(name: str) -> str:
    """A file of the page, or one that it shares with reports."""
    if has_component(name):
        return read_component(name)
    return (resources.files("vitral.explorer") / "page" / name).read_text(encoding="utf-8")


def script() -> str:
    """The modules of the page as one."""
    return join_modules(read(f"{name}.js") for name in MODULES)


def digest(code: str) -> str:
    """What a page's policy names a script by, so that no other script runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def json_text(value: object) -> str:
    """JSON that stands in a script element as it is, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def document(payload: Payload, title: str, stills: Sequence[Still], facts: Sequence[str], repeat: str) -> str:
    """The whole page. `facts` are sentences about it, `repeat` is the command that makes it again."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vitral.explorer", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    code, start = script(), read("start.js")
    # The large texts are not escaped: no character of theirs has a meaning in HTML.
    return environment.get_template("page.html").render(
        title=title,
        stills=stills,
        facts=facts,
        repeat=repeat,
        style=read("page.css"),
        start=start,
        script=code,
        policy=f"{digest(start)} {digest(code)}",
        header=json_text(payload.header),
        texts=payload.texts,
    )
