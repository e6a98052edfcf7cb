"""The explorer in a notebook: a widget (anywidget) whose weights the kernel computes when the page asks for them."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any
from uuid import uuid4

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
        content = {"payload": source.payload.header, "texts": source.payload.texts, "stills": stills, "facts": facts}
        self.set_trait("content", content | {"still": f"vitral-still-{uuid4().hex}"})
        self.on_msg(self.reply)

    def reply(self, _widget: Any, question: Mapping[str, Any], _buffers: Any) -> None:
        """Answer a question of the page."""
        name = question.get("id")
        try:
            self.send({"id": name}, buffers=[self.source.answer(question)])
        except VitralError as error:
            self.send({"id": name, "error": str(error)})

    def _ipython_display_(self, **options: Any) -> None:
        """Show still pictures, which the explorer hides when the kernel answers, and the explorer below.

        They stay in a notebook that is exported, or opened again without its kernel, where widgets are blank.
        """
        from IPython.display import display

        pictures = f'<div class="{self.content["still"]}">{"".join(map(figure, self.source.stills))}</div>'
        captions = " ".join(one.caption for one in self.source.stills)
        display({"text/html": pictures, "text/plain": captions}, raw=True)
        if shown := self._repr_mimebundle_(**options):
            data, metadata = shown
            display(data, metadata=metadata, raw=True)


def in_pixels(found: "re.Match[str]") -> str:
    return f"{float(found[1]) * ROOT_SIZE:g}px"


def figure(still: Still) -> str:
    """A still picture as HTML."""
    return (
        f'<figure style="margin:0"><img src="{still.uri}" alt="{escape(still.alt)}">'
        f"<figcaption>{escape(still.caption)}</figcaption></figure>"
    )
