"""OpenVINO, in float32 and bfloat16."""

from vitral.exporting.speed.way import Forward, Job, Way, without_bfloat16
from vitral.exporting.speed.ways.onnx import FILE, LIBRARIES, forward_of, write
from vitral.store.runtimes.openvino import OpenVinoSession


def in_float32(job: Job) -> Forward:
    return forward_of(OpenVinoSession(job.folder / FILE, "fp32"))


def in_bfloat16(job: Job) -> Forward:
    return forward_of(OpenVinoSession(job.folder / FILE, "bf16"))


NEEDED, EXTRA = ("openvino", *LIBRARIES), "export,openvino"
openvino = (
    Way("openvino", "OpenVINO", "float32", in_float32, write, libraries=NEEDED, extra=EXTRA, reopens=True),
    Way(
        "openvino-bf16",
        "OpenVINO",
        "bfloat16",
        in_bfloat16,
        write,
        libraries=NEEDED,
        extra=EXTRA,
        refuses=without_bfloat16,
        reopens=True,
    ),
)
