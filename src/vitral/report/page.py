"""A run's report: one HTML file that needs nothing but itself."""

from dataclasses import dataclass, field
from typing import Any

from vitral.report.style import data_uri


@dataclass(frozen=True)
class Picture:
    """An image in the page, what it shows for those who cannot see it, and the sentence below it."""

    content: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        return data_uri(self.content)


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and pictures."""

    title: str
    text: str
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Everything the template shows. `film` holds a WebP a frame, with what to say of each."""

    title: str
    headline: str
    detail: str
    facts: dict[str, str]
    sections: list[Section]
    settings: dict[str, Any]
    commands: list[tuple[str, str]]
    repeat: str
    film: list[tuple[bytes, str]] = field(default_factory=list)

    def html(self) -> str:
        """The page, with every value escaped."""
        return rendered("page.html", page=self)


def rendered(template: str, **values: Any) -> str:
    """A template of this folder as a page, with every value escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vitral", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = data_uri
    return environment.get_template(template).render(**values)
