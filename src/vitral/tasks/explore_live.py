"""Explore a model while it runs: rows are computed when a person points at them, so that none is left out.

Axes:  y x pixels
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from vitral.base.errors import ConfigError
from vitral.data import OnBadImage
from vitral.data.image import load_image
from vitral.explorer.additions import Additions
from vitral.explorer.document import document, policy
from vitral.explorer.live.server import LocalPage
from vitral.explorer.live.source import LiveSource
from vitral.explorer.payload import ExploredImage
from vitral.explorer.sizes import MB
from vitral.tasks.explore import LIMIT, arrays, as_list, facts_of
from vitral.tasks.explored_image import explore_image
from vitral.tasks.explored_methods import chosen_methods
from vitral.tasks.explored_models import describe_shown, open_seen
from vitral.tasks.inputs import Image, model_name, read_sized
from vitral.tasks.progress import Progress, progress_for

if TYPE_CHECKING:
    from vitral.explorer.live.widget import Explorer

HOST, PORT = "127.0.0.1", 8765


def explore_live(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    *,
    view: str = "",
    method: Sequence[str] = (),
    orders: int | None = None,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    progress: bool | Progress = False,
) -> "Explorer":
    """The explorer as a notebook's widget: `vitral.explore_live("runs/shapes-1", "photo.jpg")` as a cell's last line.

    Its rows are computed by the model in the notebook's kernel, for any number of tokens, and none is left out. `view`
    is what it shows first, in the words of a page's address; the widget's own `view` follows the reader. `method` and
    `orders` are those of `vitral.explore`.

    Raises `ConfigError` without the extra `notebook`, and what `vitral.explore` raises for a model that has no page.
    """
    try:
        from vitral.explorer.live.widget import Explorer
    except ImportError as error:
        raise ConfigError(f"The explorer in a notebook needs {error.name}: pip install 'vitral[notebook]'.") from error
    source = live_source(model, images, method, orders, code, on_bad_image, progress_for(progress))
    return Explorer(source, live_facts(source, model_name(model)), view)


def explore_locally(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    *,
    host: str = HOST,
    port: int = PORT,
    allow_remote: bool = False,
    method: Sequence[str] = (),
    orders: int | None = None,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    repeat: str = "",
    progress: bool | Progress = False,
) -> LocalPage:
    """The explorer as a page of this machine: `.address` says where, and `.serve_forever()` answers until stopped.

    Port 0 is any free one. Raises `ConfigError` for an address that is taken or that is not this machine's, and for one
    that other machines can reach unless `allow_remote`; and what `vitral.explore` raises for a model that has no page.
    """
    page = LocalPage(host, port, allow_remote)  # first, so that a wrong address is refused at once
    try:
        source = live_source(model, images, method, orders, code, on_bad_image, progress_for(progress))
    except BaseException:
        page.server_close()
        raise
    name = f"vitral explore --live {model_name(model)}"
    text = document(source.payload, name, source.stills, live_facts(source, model_name(model)), repeat, "live")
    page.open_page(source, text, policy("live"))
    return page


def live_source(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    method: Sequence[str],
    orders: int | None,
    code: str | None,
    on_bad_image: OnBadImage,
    progress: Progress,
) -> LiveSource:
    """What a live host shows and answers, after the model has seen each image once."""
    several, methods = as_list(images), chosen_methods(method)
    opened = open_seen(model, code, progress)
    read = read_sized(several, opened.preprocessing, on_bad_image, progress)
    additions = Additions({"": opened})
    photos = {str(path): pixels for path, pixels in arrays(several)}

    def watch(number: int, methods: Sequence[str] = ()) -> ExploredImage:
        path, pixels, _ = read[number]
        photo = photos[str(path)] if str(path) in photos else load_image(path)
        return replace(explore_image(opened, path.name, pixels, photo, methods, orders), photo=number)

    def watch_and_count(number: int) -> ExploredImage:
        progress.count("images", number, len(read))
        return watch(number, methods)

    source = LiveSource(model_name(model), watch_and_count, len(read))
    for _, pixels, _ in read:
        additions.add("", pixels)
    source.payload = additions.into(source.payload, LIMIT * MB)
    source.facts = additions.facts
    source.watch = watch  # of an image that is seen again, only the queries and keys are needed
    progress.close()
    return source


def live_facts(source: LiveSource, name: str) -> list[str]:
    """Sentences about a live explorer, for its last section."""
    error = (
        "Weights are computed by the model when you point at them, and none is left out. Those that a patch receives "
        "are rounded to half precision."
    )
    return [*source.facts, *facts_of((describe_shown(name, source.first),), source.encoder, [error])]
