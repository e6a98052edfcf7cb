"""OpenVINO, in float32, bfloat16 and int8. It reads what PyTorch's exporter to ONNX has written."""

from functools import partial

from vitral.exporting.speed.files import open_files, without_calibration, write_int8, write_openvino
from vitral.exporting.speed.way import Way, without_bfloat16
from vitral.exporting.speed.ways.onnx import LIBRARIES

NEEDED, EXTRA = ("openvino", *LIBRARIES), "export,openvino"
openvino = (
    Way(
        "openvino",
        "OpenVINO",
        "float32",
        partial(open_files, "openvino", "fp32"),
        write_openvino,
        libraries=NEEDED,
        extra=EXTRA,
        reopens=True,
    ),
    Way(
        "openvino-bf16",
        "OpenVINO",
        "bfloat16",
        partial(open_files, "openvino", "bf16"),
        write_openvino,
        libraries=NEEDED,
        extra=EXTRA,
        refuses=without_bfloat16,
        reopens=True,
    ),
    Way(
        "openvino-int8",
        "OpenVINO",
        "int8",
        partial(open_files, "openvino", "int8"),
        partial(write_int8, "openvino"),
        libraries=("nncf", *NEEDED),
        extra=EXTRA,
        refuses=without_calibration,
        reopens=True,
    ),
)
