"""What a model returns is called what it is: logits, probabilities, or values between 0 and 1."""

import pytest
import torch
from torch import Tensor, nn

from plain_vit import ViT, made
from vitral import explain
from vitral.base.output_scale import BETWEEN, LOG_PROBABILITIES, LOGITS, PROBABILITIES, scale_of
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.explain.trials import Trials
from vitral.tasks.output_warning import output_warning
from vitral.tasks.predict import predict

ENDS = {
    "logits": (lambda x: x, LOGITS),
    "softmax": (lambda x: x.softmax(-1), PROBABILITIES),
    "softmax by hand": (lambda x: x.exp() / x.exp().sum(-1, keepdim=True), PROBABILITIES),
    "half precision": (lambda x: x.softmax(-1).half().float(), PROBABILITIES),
    "log-softmax": (lambda x: x.log_softmax(-1), LOG_PROBABILITIES),
    "sigmoid": (lambda x: x.sigmoid(), BETWEEN),
    "all negative": (lambda x: x - 20, LOGITS),
}


class Ending(ViT):
    def __init__(self, end):
        super().__init__()
        self.end = end
        self.head = nn.Linear(16, 5)
        nn.init.normal_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.end(super().forward(images))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ENDS)
def test_captions_name_what_is_explained(name, images):
    end, scale = ENDS[name]
    model = made(Ending(end))
    assert scale_of(model(images)) is scale
    for method in (explain.occlusion, explain.input_gradient, explain.integrated_gradients):
        maps = method(model, images, grid=(4, 4))
        assert scale.score in maps.caption and maps.unit == scale.unit
        assert scale is LOGITS or "logit" not in maps.caption
    for number in range(2):  # a constant map says the same
        flat = explain.occlusion(made(Ending(lambda x: end(x * 0 + torch.arange(5.0)))), images, grid=(4, 4))
        assert f"leaves {scale.score} as it is" in flat.caption_of(number)


@pytest.mark.parametrize("name", ENDS)
def test_a_warning_where_they_are_taken_for_logits(name, images):
    end, scale = ENDS[name]
    model = made(Ending(end))
    warned = scale in (PROBABILITIES, BETWEEN)
    assert output_warning(model, (16, 16)) == (scale.warning("Ending") if warned else "")
    seen = Preprocessing((16, 16), 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    attach_record(model, ModelRecord(("a", "b", "c", "d", "e"), seen))
    pixels = torch.randint(0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    assert (scale.warning("Ending") in predict(model, pixels).notes) == warned


def test_a_tested_map_has_the_models_own_probability(images):
    model = made(Ending(ENDS["softmax"][0]))
    trials = Trials(explain.observe(model, images, ["feature maps"]), orders=0)
    torch.testing.assert_close(torch.from_numpy(trials.scores), model(images).detach().double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(trials.values, trials.scores)


def test_few_values_tell_nothing():
    for outputs in (torch.zeros(2, 5), torch.full((2, 4), 0.25), torch.rand(3, 1), torch.rand(1, 2, 3, 3)):
        assert scale_of(outputs) is LOGITS
