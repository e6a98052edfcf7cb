"""Write the three graphs as ONNX files, each of which holds its weights."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.exporting.graphs import Answering, Preprocess, Whole
from vitral.store.artifact import IMAGE, INPUT, LOGITS
from vitral.store.classifier import Classifier
from vitral.store.runtimes.graphs import MODEL, PREPROCESS, WHOLE

EXAMPLE = (48, 64)  # rows and columns of an image on which a graph is traced; others are taken as well
ANY = torch.export.Dim.DYNAMIC


def write_graphs(model: Classifier, folder: Path, output: str, pillow: int) -> None:
    """Write `preprocess.onnx`, `model.onnx` (any number of images) and `whole.onnx` (one image) into the folder.

    Raises `ConfigError` for a model that the exporter does not take, with its reason.
    """
    height, width = model.preprocessing.size
    preprocess, answering = Preprocess(model.preprocessing, pillow), Answering(model)
    image = torch.zeros(1, *EXAMPLE, 3, dtype=torch.uint8)
    # Two images: a number of 1 would be taken for a constant.
    images = torch.zeros(2, len(model.preprocessing.mean), height, width)
    any_size = {1: ANY, 2: ANY}
    write_graph(preprocess, image, any_size, folder / f"{PREPROCESS}.onnx", [IMAGE], [INPUT])
    write_graph(answering, images, {0: ANY}, folder / f"{MODEL}.onnx", [INPUT], [output, LOGITS])
    write_graph(Whole(preprocess, answering), image, any_size, folder / f"{WHOLE}.onnx", [IMAGE], [output, LOGITS])


def write_graph(
    module: nn.Module, example: Tensor, dynamic: dict[int, Any], path: Path, inputs: list[str], outputs: list[str]
) -> None:
    """Trace a module on an example, whose sides in `dynamic` may be any, and write the graph."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of what it does itself
        try:
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=(dynamic,),
                input_names=inputs,
                output_names=outputs,
                verbose=False,
            )
        except Exception as error:  # whatever the exporter raises for a model that it does not take
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(
                f"PyTorch's ONNX exporter does not take this model ({path.name}): {reason.strip()} What it takes are "
                "models whose code takes the same way for every image, as those of Vitral, timm and Hugging Face."
            ) from error
    assert program is not None
    program.save(path, external_data=False)
