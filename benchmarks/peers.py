"""timm and torchvision, importable on a CPU build of PyTorch.

The compiled operators of torchvision, which timm imports, need CUDA libraries; declaring two operator schemas first
lets its Python part import. Good enough for a peer in a comparison, never for the package.
"""

import torch

SCHEMAS = torch.library.Library("torchvision", "DEF")
SCHEMAS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
SCHEMAS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402 - the schemas must be declared first
import torchvision  # noqa: E402

__all__ = ["timm", "torchvision"]
