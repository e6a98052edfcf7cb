"""The page on watching quotes what `watch` says no with, as the code says it, and leaves out none."""

import ast
import re
from pathlib import Path

import pytest
from benchmarks.messages import SOURCE, messages, text_of

PAGE = Path(__file__).parents[2] / "docs" / "watching.md"
QUOTES = re.findall(r"^\| ([^|]+?) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[1:]
FILES = [path for folder in ("recording", "explain") for path in sorted((SOURCE / folder).glob("*.py"))]
# What the caller did wrong, which the message itself explains: arguments, and images.
OF_CALLERS = ("forward.py", "indices.py", "edits.py", "traced.py")
ARGUMENTS = (
    "rows=",
    "watch takes",
    "num_prefix_tokens",
    "Tokens {",
    "The rows of tokens",
    "query=",
    "{self.num_patches}",
)


def texts(path: Path) -> list[str]:
    """Every text in a file, with filled-in values in braces."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.expr)]
    return [" ".join(text_of(node).split()) for node in nodes]


@pytest.mark.parametrize("quote", QUOTES)
def test_each_quote_is_what_the_code_says(quote):
    known = [text for path in FILES for text in texts(path)]
    assert any(quote in text for text in known), quote


def test_no_refusal_of_a_model_is_left_out():
    for path in (SOURCE / "recording").glob("*.py"):
        for _, kind, text in messages(ast.parse(path.read_text(encoding="utf-8"))):
            about_the_model = kind in ("UsageError", "WatchError", "NothingSeen") and path.name not in OF_CALLERS
            if about_the_model and not text.startswith(ARGUMENTS):
                assert any(quote in text for quote in QUOTES), text
