"""What a live host answers is what `watch` gives, for each query and key of each kind of layer."""

import numpy as np
import pytest
import torch

from peers import PEERS
from tiny import tiny_vit
from vitral.base.errors import UsageError, WatchError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.explain.observation import observe
from vitral.explorer.live import source as live
from vitral.explorer.live.weights import FormedLayers
from vitral.tasks.explore_live import live_source
from vitral.tasks.progress import Progress

NAMES = ("ours", "timm ViT, registers, mean pool", "Hugging Face SigLIP", "timm Swin")


def model_named(name):
    if name == "ours":
        return attach_record(tiny_vit(), ModelRecord(tuple("abcde"), Preprocessing((8, 18), 1.0, "bilinear")))
    peer = PEERS[name]()
    preprocessing = Preprocessing(peer.size, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
    return attach_record(
        peer.model, ModelRecord(tuple(f"class {each}" for each in range(5 * peer.classes)), preprocessing)
    )


def photograph(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def source_of(model, *photos):
    return live_source(model, list(photos), ("none",), None, None, "fail", Progress())


def ask(source, layer, direction, token, image=0):
    question = {"image": image, "layer": layer, "direction": direction, "token": token}
    return np.frombuffer(source.answer(question), "<f4")


def rows_in_order(layer):
    """All rows as the payload counts tokens: (heads, queries, keys)."""
    weights = layer.weights().detach().double()
    if layer.windows is None:
        order = [*layer.tokens.other_tokens, *layer.tokens.patch_tokens]
        return weights[0][:, order if layer.queries_are_keys else slice(None)][..., order].numpy()
    places = [layer.windows.locate(patch) for patch in range(layer.windows.grid[0] * layer.windows.grid[1])]
    return torch.stack([weights[window, :, token] for window, token in places], dim=1).numpy()


@pytest.mark.parametrize("limit", [None, 0], ids=["formed once", "formed for each question"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_and_columns_are_those_of_watch(name, limit):
    """A column has the weight that each query gives, and the sum of the query's row on patches."""
    model, photo = model_named(name), photograph()
    source = source_of(model, photo)
    if limit is not None:
        source.formed = 0, FormedLayers(limit)
    observation = observe(model, batch_of([photo], model.preprocessing))
    for place, layer in enumerate(observation.layers):
        expected = rows_in_order(layer)
        heads, queries, keys = expected.shape
        for query in {0, queries // 2, queries - 1}:
            row = ask(source, place, "to", query).reshape(heads, keys)
            np.testing.assert_allclose(row, expected[:, query], rtol=1e-4, atol=1e-7)
        about = source.payload.header["images"][0]["layers"][place]
        windows = source.payload.header["windows"]
        prefix = len(about["prefix"])
        for key in {0, keys // 2, keys - 1}:
            column = ask(source, place, "from", key)
            if layer.windows is None:
                weights, sums = expected[:, :, key], expected[:, :, prefix:].sum(axis=-1)
            else:
                window, token = layer.windows.locate(key)
                patches = windows[about["windows"]]["places"][window]
                real = [at for at, patch in enumerate(patches) if patch >= 0]
                of_window = expected[:, [patches[at] for at in real]]
                weights, sums = of_window[..., token], of_window[..., real].sum(axis=-1)
            wanted = np.stack([weights, sums]).ravel()
            np.testing.assert_allclose(column, wanted, rtol=2**-11 + 1e-4, atol=1e-7)
    assert bool(source.formed[1].layers) == (limit is None)


def test_a_question_about_what_does_not_exist_is_refused():
    source = source_of(model_named("ours"), photograph())
    good = {"image": 0, "layer": 0, "direction": "to", "token": 0}
    cases = (
        ({"image": 1}, "no image 1"),
        ({"layer": 3}, "no layer 3"),
        ({"token": 7}, "no query 7"),
        ({"token": 7, "direction": "from"}, "no key 7"),
        ({"direction": "up"}, "'to' or 'from'"),
        ({"token": "-1"}, "whole number from 0"),
        ({"token": "٣"}, "whole number from 0"),
        ({"layer": None}, "whole number from 0"),
    )
    for change, words in cases:
        with pytest.raises(UsageError, match=words):
            source.answer(good | change)


def test_images_that_were_let_go_are_watched_again(monkeypatch):
    monkeypatch.setattr(live, "KEPT", 1)
    model, photos = model_named("ours"), [photograph(seed) for seed in range(3)]
    source = source_of(model, *photos)
    for image, photo in enumerate(photos):
        layer = observe(model, batch_of([photo], model.preprocessing)).layers[1]
        row = ask(source, 1, "to", 3, image).reshape(layer.num_heads, -1)
        np.testing.assert_allclose(row, rows_in_order(layer)[:, 3], rtol=1e-4, atol=1e-7)
        assert list(source.kept) == [image]


def test_a_model_that_changed_meanwhile_is_not_shown_beside_its_old_answers(monkeypatch):
    monkeypatch.setattr(live, "KEPT", 1)
    model = model_named("ours")
    source = source_of(model, photograph(0), photograph(1))
    with torch.no_grad():
        model.blocks[1].attn.qkv.weight.mul_(2)
    with pytest.raises(WatchError, match="The model has changed since"):
        ask(source, 0, "to", 0, image=0)
