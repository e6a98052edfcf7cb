"""A model that PyTorch's exporter does not take is refused with the part that it does not take, and nothing else."""

import re

import pytest
import torch
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.exporting.refusal import why_refused
from vitral.exporting.to_onnx import ANY, write_graph


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images * 2 if images.sum() > 0 else images


class Factorising(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.svd(images)[1]


class Counting(nn.Module):
    """Goes round as often as a value of the image says."""

    def forward(self, images: Tensor) -> Tensor:
        for _ in range(int(images[0, 0, 0, 0] * 10)):
            images = images * 2
        return images


def refusal(module: nn.Module, tmp_path) -> str:
    with pytest.raises(ConfigError) as refused:
        write_graph(module, torch.rand(2, 1, 4, 4), {0: ANY}, tmp_path / "model.onnx", ["images"], ["found"])
    return str(refused.value)


@pytest.mark.parametrize(
    ("module", "part"),
    [
        (
            Branching(),
            r"`return images \* 2 if images\.sum\(\) > 0 else images` \(\S*test_export_refusal\.py, line 16\)",
        ),
        (Factorising(), "ONNX has nothing for the operator aten._linalg_svd"),
        (Counting(), r"`for _ in range\(int\(images\[0, 0, 0, 0\] \* 10\)\):`"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_refusal_names_the_part(module, part, tmp_path, capfd):
    said = refusal(module, tmp_path)
    assert re.search(part, said) and "vitral bench" in said
    assert "\n" not in said and "\x1b" not in said
    assert capfd.readouterr() == ("", "")  # the exporter's own pages of advice stay away


def test_another_cause_is_given_in_its_own_words():
    try:
        try:
            raise ValueError("\n  sizes differ.\nmore")
        except ValueError as cause:
            raise RuntimeError("Next steps: ask somebody") from cause
    except RuntimeError as error:
        assert why_refused(error).startswith("sizes differ. ")
    assert why_refused(KeyError()).startswith("KeyError. ")
