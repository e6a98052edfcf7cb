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

# In the order of their imports: those of every host, then those of one.
MODULES = (
    "base85",
    "decode",
    "layer",
    "address",
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
    "scale",
    "tokens",
    "explained",
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
    "png_text",
    "save",
    "explorer",
)
HOSTS = {
    "file": ("stored_layer", "file_host"),
    "live": ("live_layer", "live_source", "live_host"),
    "notebook": ("live_layer", "live_source", "notebook_host"),
}


def read(name: str) -> str:
    """A file of the page, or one that it shares with reports."""
    if has_component(name):
        return read_component(name)
    return (resources.files("vitral.explorer") / "page" / name).read_text(encoding="utf-8")


def script(host: str = "file") -> str:
    """The modules of a host's page as one."""
    return join_modules(read(f"{name}.js") for name in (*MODULES, *HOSTS[host]))


def digest(code: str) -> str:
    """What a page's policy names a script by, so that no other script runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def policy(host: str) -> str:
    """What a host's page may run and fetch: its own two scripts, and the weights that it asks for."""
    asks = "; connect-src 'self'" if host == "live" else ""
    return (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src {digest(read('start.js'))} {digest(script(host))}{asks}"
    )


def json_text(value: object) -> str:
    """JSON that stands in a script element as it is, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def document(
    payload: Payload, title: str, stills: Sequence[Still], facts: Sequence[str], repeat: str, host: str = "file"
) -> str:
    """The whole page. `facts` are sentences about it, `repeat` is the command that makes it again.

    The page of the host `live` may ask the program that serves it, and nobody else.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vitral.explorer", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The large texts are not escaped: no character of theirs has a meaning in HTML.
    return environment.get_template("page.html").render(
        title=title,
        stills=stills,
        facts=facts,
        repeat=repeat,
        style=read("page.css"),
        start=read("start.js"),
        script=script(host),
        policy=policy(host),
        header=json_text(payload.header),
        texts=payload.texts,
    )
