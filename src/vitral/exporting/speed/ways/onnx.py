"""ONNX Runtime, in float32 and int8."""

from functools import partial

from vitral.exporting.speed.files import open_files, without_calibration, write_int8, write_onnx
from vitral.exporting.speed.way import Way

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
onnx = (
    Way(
        "onnx",
        "ONNX Runtime",
        "float32",
        partial(open_files, "onnx", "fp32"),
        write_onnx,
        libraries=LIBRARIES,
        extra="export",
        reopens=True,
    ),
    Way(
        "onnx-int8",
        "ONNX Runtime",
        "int8",
        partial(open_files, "onnx", "int8"),
        partial(write_int8, "onnx"),
        libraries=LIBRARIES,
        extra="export",
        refuses=without_calibration,
        reopens=True,
    ),
)
