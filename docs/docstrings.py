"""Docstrings as Markdown, for the site: examples become code, and aligned names become a list.

mkdocstrings loads this extension of griffe (see mkdocs.yml). In the code a docstring stays plain text.
"""

import re
from typing import Any

from griffe import Extension, Object

NAMED = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")  # as in: images   the images as the model takes them


class DocstringsAsMarkdown(Extension):
    def on_object(self, *, obj: Object, **details: Any) -> None:
        if obj.docstring:
            obj.docstring.value = "\n\n".join(map(as_markdown, obj.docstring.value.split("\n\n")))


def as_markdown(paragraph: str) -> str:
    """A paragraph of a docstring as Markdown.

    >>> as_markdown(">>> 1 + 1\\n2")
    '```pycon\\n>>> 1 + 1\\n2\\n```'
    >>> as_markdown("images   as the model takes them,\\n         (B, C, H, W)")
    '* `images`: as the model takes them, (B, C, H, W)'
    """
    text, mark, example = paragraph.partition(">>> ")
    if mark and (not text or text.endswith("\n")):
        return f"{text}\n```pycon\n{mark}{example.rstrip()}\n```".lstrip("\n")
    items: list[str] = []
    for line in paragraph.split("\n"):
        if named := NAMED.fullmatch(line):
            items.append(f"* `{named[1]}`: {named[2]}")
        elif items and line.startswith("  "):
            items[-1] += f" {line.strip()}"
        else:  # a line of prose: not a list of names
            return paragraph
    return "\n".join(items)
