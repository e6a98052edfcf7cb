"""Vitral builds, trains and looks inside Vision Transformers, and measures every claim it makes about them.

Names are imported when they are first used, so that `import vitral` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitral import explain as explain
    from vitral.data.image import load_image
    from vitral.explain.maps import Maps
    from vitral.nn.attention import Attention
    from vitral.nn.block import Block
    from vitral.nn.mlp import MLP
    from vitral.nn.patch import PatchEmbedding
    from vitral.nn.vit import VisionTransformer
    from vitral.nn.zoo import list_models
    from vitral.recording.intercept import watch
    from vitral.tasks.bench import bench
    from vitral.tasks.diagnose import diagnose
    from vitral.tasks.embed import embed
    from vitral.tasks.evaluate import evaluate
    from vitral.tasks.explain_images import explain_images
    from vitral.tasks.explore import explore
    from vitral.tasks.explore_live import explore_live
    from vitral.tasks.export import export
    from vitral.tasks.predict import predict
    from vitral.tasks.train import train
    from vitral.weights.create import create
    from vitral.weights.load import load

HOMES = {
    "Attention": "nn.attention",
    "Block": "nn.block",
    "MLP": "nn.mlp",
    "Maps": "explain.maps",
    "PatchEmbedding": "nn.patch",
    "VisionTransformer": "nn.vit",
    "bench": "tasks.bench",
    "create": "weights.create",
    "diagnose": "tasks.diagnose",
    "embed": "tasks.embed",
    "evaluate": "tasks.evaluate",
    "explain_images": "tasks.explain_images",
    "explore": "tasks.explore",
    "explore_live": "tasks.explore_live",
    "export": "tasks.export",
    "list_models": "nn.zoo",
    "load": "weights.load",
    "load_image": "data.image",
    "predict": "tasks.predict",
    "train": "tasks.train",
    "watch": "recording.intercept",
}

__all__ = [  # noqa: RUF022 - in the order of use
    "PatchEmbedding",
    "Attention",
    "MLP",
    "Block",
    "VisionTransformer",
    "create",
    "list_models",
    "load",
    "load_image",
    "train",
    "evaluate",
    "predict",
    "embed",
    "explain_images",
    "explore",
    "explore_live",
    "diagnose",
    "export",
    "bench",
    "watch",
    "Maps",
]


def __getattr__(name: str) -> Any:
    if name == "explain":
        return import_module("vitral.explain")
    if name not in HOMES:
        raise AttributeError(f"module 'vitral' has no attribute {name!r}")
    found = getattr(import_module(f"vitral.{HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
