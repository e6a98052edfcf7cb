"""The model's graph in int8: linear layers and convolutions, except those that 8 bits change most.

Everything between them stays in float: residual additions, norms, attention, and the first and the last layer. Further
layers stay in float, those with the largest error first, until images that calibrate have the model's answers.

Axes:  n images
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vitral.exporting.to_openvino import read, save_with_preprocessing
from vitral.exporting.weighted_layers import WeightedLayer
from vitral.store.artifact import INPUT
from vitral.store.runtimes.graphs import MODEL, PREPROCESS, WHOLE
from vitral.store.runtimes.openvino import import_quietly
from vitral.store.runtimes.session import Runtime

SHARES = (0.0, 0.125, 0.25, 0.5)  # of the layers between the first and the last, which stay in float: tried in turn
MEASURED = 4  # images on which the error of each layer is measured


def quantise(
    source: Path,
    folder: Path,
    runtime: Runtime,
    images: Float[np.ndarray, "n c h w"],
    layers: Sequence[WeightedLayer],
    is_good: Callable[[], bool],
) -> list[WeightedLayer]:
    """Write the three graphs into `folder` with the model's in int8, from the ONNX graphs in `source`.

    `images` calibrate; `is_good` judges what was written. Returns the layers that stay in float.
    """
    write = write_openvino if runtime == "openvino" else write_onnx
    inner = sorted((layer for layer in layers if not layer.is_end), key=lambda layer: -layer.error)
    kept: list[WeightedLayer] = []
    for share in SHARES:
        kept = [layer for layer in layers if layer.is_end] + inner[: round(share * len(inner))]
        write(source, folder, images, [layer.node for layer in layers if layer not in kept])
        if is_good():
            break
    return kept


def write_openvino(source: Path, folder: Path, images: np.ndarray, nodes: Sequence[str]) -> None:
    """By NNCF's quantisation after training, with these nodes in int8."""
    model = read(source, MODEL)
    with quietly():
        nncf = import_quietly("nncf", "int8 for OpenVINO")
        nncf.set_log_level(logging.ERROR)
        every = model.get_ordered_ops()
        products = [op for op in every if op.get_type_name() in ("MatMul", "Convolution", "GroupConvolution")]
        chosen = {op.get_friendly_name() for op in products if op.get_friendly_name().partition("/")[0] in nodes}
        others = {op.get_type_name() for op in every} - {op.get_type_name() for op in products}
        quantised = nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            target_device=nncf.TargetDevice.CPU,
            model_type=nncf.ModelType.TRANSFORMER if "Softmax" in others else None,
            ignored_scope=nncf.IgnoredScope(
                names=[name for name in (op.get_friendly_name() for op in products) if name not in chosen],
                types=sorted(others - {"Constant", "Parameter", "Result"}),
                validate=False,
            ),
        )
    save_with_preprocessing(source, quantised, folder)


def write_onnx(source: Path, folder: Path, images: np.ndarray, nodes: Sequence[str]) -> None:
    """By ONNX Runtime's static quantiser, with these nodes in int8."""
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: image[None]}

    with quietly():
        quantization.quantize_static(
            str(source / f"{MODEL}.onnx"),
            str(folder / f"{MODEL}.onnx"),
            Reader(),
            per_channel=True,
            nodes_to_quantize=list(nodes),
            # Their sums go on in float, into norms and residual additions.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
    preprocess, model = onnx.load(source / f"{PREPROCESS}.onnx"), onnx.load(folder / f"{MODEL}.onnx")
    onnx.save(preprocess, folder / f"{PREPROCESS}.onnx")
    model = onnx.compose.add_prefix(model, f"{MODEL}_", rename_inputs=False, rename_outputs=False)
    model.ir_version = preprocess.ir_version  # of the file's format, which has not changed in between
    onnx.save(onnx.compose.merge_models(preprocess, model, [(INPUT, INPUT)]), folder / f"{WHOLE}.onnx")


@contextmanager
def quietly() -> Iterator[None]:
    """Both quantisers print, log and warn of what they do themselves; the result is measured afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
