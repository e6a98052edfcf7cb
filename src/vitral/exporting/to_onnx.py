"""Write the three graphs as ONNX files, each of which holds its weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.exporting.graphs import Answering, Preprocess, Whole
from vitral.exporting.maps import AnsweringWithMaps, MapPlan
from vitral.exporting.quiet import quiet
from vitral.exporting.refusal import why_refused
from vitral.store.artifact import IMAGE, INPUT, LOGITS
from vitral.store.classifier import Classifier
from vitral.store.runtimes.graphs import MODEL, PREPROCESS, WHOLE

EXAMPLE = (48, 64)  # rows and columns of an image on which a graph is traced; others are taken as well
ANY = torch.export.Dim.DYNAMIC


def write_graphs(model: Classifier, folder: Path, output: str, pillow: int, maps: MapPlan | None = None) -> None:
    """Write `preprocess.onnx`, `model.onnx` (any number of images) and `whole.onnx` (one image) into the folder.

    The last two also give the rows of attention that `maps` plans. Raises `ConfigError` for a model that the exporter
    does not take, with its reason.
    """
    height, width = model.preprocessing.size
    preprocess = Preprocess(model.preprocessing, pillow)
    answering = Answering(model) if maps is None else AnsweringWithMaps(model, maps)
    outputs = [output, LOGITS, *(maps.maps.names if maps else ())]
    image = torch.zeros(1, *EXAMPLE, 3, dtype=torch.uint8)
    # Two images: a number of 1 would be taken for a constant.
    images = torch.zeros(2, len(model.preprocessing.mean), height, width)
    any_size = {1: ANY, 2: ANY}
    write_graph(preprocess, image, any_size, folder / f"{PREPROCESS}.onnx", [IMAGE], [INPUT])
    write_graph(answering, images, {0: ANY}, folder / f"{MODEL}.onnx", [INPUT], outputs)
    write_graph(Whole(preprocess, answering), image, any_size, folder / f"{WHOLE}.onnx", [IMAGE], outputs)


def write_graph(
    module: nn.Module, example: Tensor, dynamic: dict[int, Any], path: Path, inputs: list[str], outputs: list[str]
) -> None:
    """Trace a module on an example, whose sides in `dynamic` may be any, and write the graph."""
    with quiet(), torch.no_grad():
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
            raise ConfigError(
                f"PyTorch's ONNX exporter does not take this model ({path.name}): {why_refused(error)}"
            ) from error
    assert program is not None
    program.save(path, external_data=False)
