"""timm and torchvision, importable on a CPU build of PyTorch.

torchvision, which timm imports, is compiled against CUDA libraries; without them its operators do not load and its
import fails. Only there, two operator schemas are declared so that its Python part can be imported: where the real
operators load, a second declaration would abort the process. Good enough for a peer in a comparison, never for the
package.
"""

import torch

NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    SCHEMAS = torch.library.Library("torchvision", "DEF")  # kept: the operators go when it goes
    for operator in ("nms", "qnms"):
        SCHEMAS.define(operator + NMS)
    import torchvision

import timm  # noqa: E402 - it imports torchvision

__all__ = ["timm", "torchvision"]
