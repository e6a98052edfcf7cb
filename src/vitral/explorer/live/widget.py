"""The explorer in a notebook: a widget (anywidget) whose weights the kernel computes when the page asks for them."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any

import anywidget
import traitlets

from vitral.base.errors import VitralError
from vitral.explorer.document import read, script
from vitral.explorer.live.source import LiveSource
from vitral.explorer.still import Still

ROOT_SIZE = 16  # pixels of 1rem, which a notebook may have set otherwise


class Explorer(anywidget.AnyWidget):
    """The explorer of some images, to be shown in a notebook.

    view   what is shown, in the words of a page's address: `"image=0&layer=11&head=mean&token=3,4&direction=to"`. It
           follows the reader, and setting it changes what is shown.
    """

    _esm = script("notebook")
    sheet = traitlets.Unicode(read_only=True).tag(sync=True)
    content = traitlets.Dict(read_only=True).tag(sync=True)
    view = traitlets.Unicode().tag(sync=True)

    def __init__(self, source: LiveSource, facts: list[str], view: str = "") -> None:
        self.source = source
        stills = [{"uri": one.uri, "alt": one.alt, "caption": one.caption} for one in source.stills]
        super().__init__(view=view)
        self.set_trait("sheet", re.sub(r"(\d*\.?\d+)rem\b", in_pixels, read("page.css")))
        self.set_trait("content", {"payload": source.payload.header, "stills": stills, "facts": facts})
        self.on_msg(self.reply)

    def reply(self, _widget: Any, question: Mapping[str, Any], _buffers: Any) -> None:
        """Answer a question of the page."""
        name = question.get("id")
        try:
            self.send({"id": name}, buffers=[self.source.answer(question)])
        except VitralError as error:
            self.send({"id": name, "error": str(error)})

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and still pictures for where it cannot run, as in an exported notebook."""
        shown = super()._repr_mimebundle_(**options)
        if shown is None:
            return None
        data, metadata = shown
        return data | {"text/html": "".join(map(figure, self.source.stills))}, metadata


def in_pixels(found: "re.Match[str]") -> str:
    return f"{float(found[1]) * ROOT_SIZE:g}px"


def figure(still: Still) -> str:
    """A still picture as HTML."""
    return (
        f'<figure style="margin:0"><img src="{still.uri}" alt="{escape(still.alt)}">'
        f"<figcaption>{escape(still.caption)}</figcaption></figure>"
    )
