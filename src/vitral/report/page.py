"""A report page: one HTML file that needs no other file and no network."""

from dataclasses import dataclass, field
from typing import Any

from vitral.report.components import join_modules, read_component
from vitral.report.style import data_uri

WIDE = 640  # pixels


@dataclass(frozen=True)
class Picture:
    """An image in a page, the alternative text for readers who cannot see it, and the caption below it."""

    content: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        return data_uri(self.content)

    @property
    def is_wide(self) -> bool:
        """Whether a phone should show it by scrolling sideways, since its text would be too small to read."""
        return int.from_bytes(self.content[16:20], "big") > WIDE  # the width in the header of a PNG file


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, a list of what it is about, pictures, and a table, whose first row has the headings."""

    title: str
    text: str
    pictures: list[Picture] = field(default_factory=list)
    items: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Page:
    """The values of the template.

    `film` has one WebP image per frame, each with its name, such as "step 120".
    `film_images` says which images it shows.
    """

    title: str
    headline: str
    detail: str
    facts: dict[str, str]
    sections: list[Section]
    settings: dict[str, Any]
    commands: list[tuple[str, str]]
    repeat: str
    film: list[tuple[bytes, str]] = field(default_factory=list)
    film_images: str = ""

    def html(self) -> str:
        """The page as HTML, with every value escaped."""
        film = join_modules(map(read_component, ("controls.js", "film.js"))) if self.film else ""
        return render("page.html", page=self, film_script=film)


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder. Every value is escaped, and a value that is missing is an error."""
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
