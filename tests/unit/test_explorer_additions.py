"""What a page has besides rows: what fits into it, and why something is missing."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import vitral
from tiny import redraw, tiny_vit, with_record
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import normalise
from vitral.explorer.additions import NO_ROOM, Additions, AdditionsOfModel
from vitral.explorer.network import MOST_BYTES, Network, why_no_network
from vitral.explorer.payload import Payload
from vitral.explorer.similarities import BOUND, encode_similarities
from vitral.explorer.tokens import TokensAtPlace, neighbours, tokens_between_blocks
from vitral.nn.family.mixer import NoMixing
from vitral.nn.family.mlp import SwiGLU
from vitral.nn.family.pool import AttentionPool, MeanPool
from vitral.nn.family.rope import RotaryAttention
from vitral.nn.head import MLPHead
from vitral.store.numbers_head import add_numbers_head

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 18, 3), dtype=np.uint8)


@pytest.fixture
def model():
    return with_record(tiny_vit())


def header():
    layers = [{"number": number, "grid": [2, 3]} for number in range(3)]
    return {"images": [{"layers": layers, "model": ""}]}


def put(model, left):
    additions = Additions({"": model})
    additions.add("", PIXELS)
    return additions.into(Payload(header(), {"rows": "abc"}, 0.001), left), additions


def test_everything_is_stored_where_there_is_room(model):
    payload, additions = put(model, 1e6)
    found = payload.header
    image, own = found["images"][0], found["models"][0]
    assert additions.num_weights == sum(weight.numel() for weight in model.parameters())
    assert own["network"]["id"] == "weights-0" and own["positions"]["grid"] == [2, 3]
    assert [layer["tokens"] for layer in image["layers"]] == [[0, 1], [1, 2], [2, 3]]
    assert {"rows", "weights-0", "positions-0", "input-0-0", "tokens-0-0-0", "tokens-0-0-3"} <= set(payload.texts)
    assert 0 < found["tokenError"] <= BOUND and own["whyNoPositions"] == own["whyNoNetwork"] == ""
    said = " ".join(additions.facts)
    assert "half precision" in said and "off by at most 0.0" in said and "no room" not in said
    assert header()["images"][0]["layers"][0].keys() == {"number", "grid"}  # what was given is not changed


def test_without_room_the_reason_is_given(model):
    payload, additions = put(model, 0)
    assert payload.texts == {"rows": "abc"} and additions.num_weights == 0
    found, own = payload.header, payload.header["models"][0]
    assert own["whyNoNetwork"] == own["whyNoPositions"] == NO_ROOM
    assert own["network"] is own["positions"] is found["images"][0]["input"] is None
    assert found["images"][0]["tokens"] == [None] * 4 and NO_ROOM in " ".join(additions.facts)


def test_the_last_places_come_first_and_no_more_is_stored_than_fits(model):
    everything, _ = put(model, 1e6)
    for left in range(0, 30_000, 120):
        payload, additions = put(model, left)
        added = sum(len(text) for name, text in payload.texts.items() if name != "rows")
        assert added <= left
        kept = [place is not None for place in payload.header["images"][0]["tokens"]]
        if any(kept) and not all(kept):
            assert kept == sorted(kept)  # the missing ones come first
            assert f"at {kept.count(False)} of 4 places" in " ".join(additions.facts)
            break
    else:
        pytest.fail("no size leaves out some places and keeps others")
    assert len(payload.texts) < len(everything.texts)


def test_the_rounded_weights_and_what_they_change(model):
    network = Network(model)
    content, outputs = network.image(PIXELS)
    images = normalise(torch.from_numpy(PIXELS)[None], model.preprocessing)
    with torch.no_grad():
        full = model(images)[0].numpy()
    assert network.drift == pytest.approx(np.abs(full - outputs).max()) and 0 < network.drift < 0.05
    assert network.changed == 0 and content.num_bytes > 0
    assert all(torch.equal(weight, weight.half().float()) for weight in network.rounded.state_dict().values())


def test_numbers_are_in_their_unit():
    model = tiny_vit(num_classes=1)
    add_numbers_head(model, 1)
    model.head.unit_mean.fill_(1_000.0)
    model.head.unit_std.fill_(10.0)
    attach_record(model, ModelRecord(("weight",), Preprocessing((8, 18)), task="numbers"))
    network = Network(model)
    _, outputs = network.image(PIXELS)
    with torch.no_grad():
        full = model(normalise(torch.from_numpy(PIXELS)[None], model.preprocessing))
    assert outputs[0] == pytest.approx(float(full[0, 0]), rel=1e-2) and network.to_json({})["task"] == "numbers"


def test_outputs_that_are_not_finite_after_rounding(model):
    additions = AdditionsOfModel("", model)
    additions.network.rounded.head.bias.data.fill_(float("nan"))
    additions.add(PIXELS)
    assert additions.network is None and "outputs are not finite" in additions.why_no_network


def test_classes_without_a_name_have_their_number():
    model = attach_record(tiny_vit(), ModelRecord(("circle", "square"), Preprocessing((8, 18))))
    assert Network(model).to_json({})["classes"] == ["circle", "square", "class 2", "class 3", "class 4"]


def small(**parts):
    return redraw(vitral.create("vit_nano_patch8_48", num_classes=2, **parts))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: vitral.create("swin_nano_patch2_window6_48", num_classes=2), "a SwinTransformer"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "a Sequential of another library"),
        (lambda: small(mixer=RotaryAttention), "has no RotaryAttention"),
        (lambda: small(mixer=NoMixing), "has no NoMixing"),
        (lambda: small(mlp=SwiGLU), "has no SwiGLU"),
        (lambda: small(pool=AttentionPool), "has no AttentionPool"),
        (lambda: small(head=MLPHead), "has no MLPHead"),
        (lambda: small(norm=nn.RMSNorm), "has no RMSNorm"),
        (lambda: small(norm=partial(nn.LayerNorm, elementwise_affine=False)), "without weight and bias"),
        (lambda: small(window_size=3), "attends within windows"),
        (lambda: vitral.create("vit_nano_patch8_48", num_classes=0), "has no head"),
        (lambda: vitral.create("vit_mu_patch16_224", img_size=1024, patch_size=8), "million multiply-adds"),
        (lambda: vitral.create("vit_tiny_patch16_224"), f"at most {MOST_BYTES / 1e6:g} MB"),
    ],
)
def test_a_model_that_the_page_cannot_run_has_the_reason(build, words):
    assert words in why_no_network(build())


@pytest.mark.parametrize("parts", [{}, dict(tokens={}, pool=MeanPool), dict(drop_path_rate=0.1)])
def test_small_models_of_ours_can_be_run(parts):
    assert why_no_network(small(**parts)) == ""


def test_weights_that_half_precision_cannot_hold():
    model = small()
    model.head.weight.data[0, 0] = 1e6
    assert "too large for half precision" in why_no_network(model)


def test_layers_have_the_places_around_their_block():
    some = encode_similarities(np.eye(3))
    places = [
        TokensAtPlace(index, layers, (1, 3), (), some) for index, layers in ((0, (0, 2)), (1, (2, 3)), (3, (4, 5)))
    ]
    found = [neighbours(places, layer) for layer in range(6)]
    assert found == [(0, 1), (0, 1), (1, None), (None, None), (2, None), (None, None)]


def test_vectors_are_those_of_all_tokens_in_the_pages_order(model):
    images = normalise(torch.from_numpy(PIXELS)[None], model.preprocessing)
    first, *_ = tokens_between_blocks(model, images)
    with torch.no_grad():
        tokens = torch.nn.functional.normalize(model.embed(images)[0].double(), dim=-1)
    restored = first.similarities.restored
    assert first.prefix == ("cls",) and first.grid == (2, 3)
    np.testing.assert_allclose(restored, (tokens @ tokens.T).numpy(), atol=BOUND)
