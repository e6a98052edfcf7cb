"""Starting from a trained model: its body, its head, and how fast each layer learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tiny import redraw, tiny_vit
from vitral.base.errors import ConfigError
from vitral.base.logistic import fit_logistic
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.dataset import Dataset, Split
from vitral.nn.family.pool import AttentionPool
from vitral.nn.family.resample import resample_positions
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.head import MLPHead
from vitral.nn.vit import VisionTransformer
from vitral.training.cost import operations
from vitral.training.optim import layer_fractions, optimizers
from vitral.training.probe import fit_head
from vitral.training.recipe import Recipe
from vitral.weights.published import load_published
from vitral.weights.transfer import transfer_weights

NAMES = list("abcde")


def trained(**changes):
    model = tiny_vit(**changes)
    return attach_record(model, ModelRecord(tuple(NAMES), model.preprocessing))


def test_with_the_same_classes_and_size_it_is_the_same_model():
    model, done = transfer_weights(old := trained(), NAMES, None)
    assert done == []
    for name, tensor in old.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_other_classes_get_a_head_that_answers_nothing_yet():
    model, done = transfer_weights(old := trained(), ["x", "y"], None)
    assert not model(torch.randn(2, 3, 8, 18)).any() and model.classes == ("x", "y")
    assert torch.equal(model.state_dict()["blocks.1.mlp.fc1.weight"], old.state_dict()["blocks.1.mlp.fc1.weight"])
    assert "a new head for 2 classes" in done[0]


def test_as_many_classes_of_other_names_get_a_new_head():
    assert not transfer_weights(trained(), list("vwxyz"), None)[0].head.weight.any()


def test_a_hidden_head_can_be_learned_from_its_start():
    """Were both its maps zero, no gradient would reach either."""
    model, _ = transfer_weights(trained(head=MLPHead), ["x", "y"], None)
    model(torch.randn(2, 3, 8, 18)).square().sum().backward()
    assert model.head[0].weight.any() and not model.head[2].weight.any()


def test_another_size_resamples_positions_as_the_checkpoints_library_does():
    old = trained()
    old.provenance = {"resampling": "torchvision"}
    model, done = transfer_weights(old, NAMES, (12, 30))
    expected = resample_positions(old.pos_embed.data, (2, 3), (3, 5), "torchvision")
    assert torch.equal(model.pos_embed.data, expected) and "2 x 3 patches resampled to 3 x 5 by torchvision" in done[0]
    assert model.preprocessing == replace(old.preprocessing, size=(12, 30))


def test_a_published_checkpoint_is_started_from_with_its_own_pixels(tmp_path):
    save_file(tiny_vit().state_dict(), tmp_path / "model.safetensors")
    said = dict(source="deit", num_heads=4, trained_at=(8, 18))
    model, _ = transfer_weights(load_published(tmp_path / "model.safetensors", **said), ["x", "y"], (12, 18))
    assert model.preprocessing.mean == (0.485, 0.456, 0.406) and model.preprocessing.size == (12, 18)


def test_a_swin_is_started_from_at_any_size():
    model = redraw(SwinTransformer(img_size=32, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4))
    old = attach_record(model, ModelRecord(tuple(f"class {k}" for k in range(1000)), model.preprocessing))
    new, _ = transfer_weights(old, NAMES, (48, 32))
    assert new(torch.randn(1, 3, 48, 32)).shape == (1, 5)


@pytest.mark.parametrize("training", [False, True])
def test_the_work_of_a_model_whose_query_is_its_own_is_counted(training):
    """PyTorch's counter stumbles over a view of a parameter that asks for a gradient while gradients are off."""
    model = trained(pool=AttentionPool, tokens={}).train(training)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    with FlopCounterMode(display=False) as counter:
        torch.func.functional_call(model, weights, torch.zeros(1, 3, 8, 18))
    assert operations(model) == 3 * counter.get_total_flops() > 0
    assert all(parameter.requires_grad for parameter in model.parameters()) and model.training == training


def test_a_model_of_the_readers_own_is_refused():
    with pytest.raises(ConfigError, match="Sequential is not one of Vitral's models"):
        transfer_weights(attach_record(nn.Sequential(), ModelRecord(tuple(NAMES), Preprocessing())), NAMES, None)


@pytest.mark.parametrize("decay", [1.0, 0.75])
def test_a_layer_learns_less_by_the_decay_for_each_block_above_it(decay):
    fractions = layer_fractions(tiny_vit(), decay)
    for name, fraction in fractions.items():
        depth = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else 4 * name.startswith(("norm", "head"))
        assert fraction == pytest.approx(decay ** (4 - depth)), name


def test_swins_blocks_are_counted_over_its_stages():
    fractions = layer_fractions(SwinTransformer(img_size=32, embed_dim=8, depths=(2, 2), num_heads=(1, 2)), 0.5)
    steps = {name: fraction for name, fraction in fractions.items() if name.endswith("norm1.weight")}
    assert list(steps.values()) == [0.5**4, 0.5**3, 0.5**2, 0.5]
    assert fractions["patch_embed.proj.weight"] == 0.5**5 and fractions["head.weight"] == 1


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_parameter_is_in_one_group_with_its_own_rate(optimizer):
    model = tiny_vit()
    recipe = Recipe(optimizer=optimizer, layer_decay=0.5, lr=1e-3)
    groups = [group for each in optimizers(model, recipe) for group in each.param_groups]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    fractions = {id(model.get_parameter(name)): value for name, value in layer_fractions(model, 0.5).items()}
    for group in groups:
        (fraction,) = {fractions[id(parameter)] for parameter in group["params"]}
        assert group["lr"] in (pytest.approx(1e-3 * fraction), pytest.approx(1e-2 * fraction))


def test_logistic_regression_is_scikit_learns():
    sklearn = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)) * [1, 2, 3, 4, 5, 6] + 3, rng.integers(0, 3, 200)
    x[:, 0] += y
    penalty = 0.01
    weight, bias = fit_logistic(torch.from_numpy(x), torch.from_numpy(y), 3, penalty)
    mean, deviation = x.mean(0), x.std(0, ddof=1) + 1e-6
    peer = sklearn.LogisticRegression(C=1 / (2 * penalty * len(x)), tol=1e-10, max_iter=10_000)
    peer.fit((x - mean) / deviation, y)
    ours = torch.from_numpy(x) @ weight.T + bias
    np.testing.assert_allclose(ours.softmax(dim=1).numpy(), peer.predict_proba((x - mean) / deviation), atol=1e-4)


def drawn(count, seed):
    """Images whose brightness is their class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    pixels = rng.integers(0, 40, (count, 8, 18, 3)) + labels[:, None, None, None] * 90
    return Split(pixels.astype(np.uint8), labels)


def test_a_probe_fits_the_head_and_leaves_the_body_alone():
    model, _ = transfer_weights(trained(), ["dark", "grey", "light"], None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    splits = {"train": drawn(60, 0), "val": drawn(30, 1)}
    data = Dataset("drawn", model.classes, model.preprocessing, lambda split: splits[split])
    progress = []
    probe = fit_head(model, data, lambda done, total: progress.append((done, total)))
    assert probe.figures.value > 0.9 and progress[-1] == (90, 90)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"} and not model.head._forward_pre_hooks


def test_a_balanced_probe_finds_more_of_a_rare_class():
    """Of two classes that overlap, the rare one is left to the frequent one unless it weighs more."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [180, 12])
    light = rng.normal(110, 25, len(labels)) + 30 * labels
    splits = Split(np.broadcast_to(light[:, None, None, None], (192, 8, 18, 3)).clip(0, 255).astype(np.uint8), labels)
    found = []
    for balanced in (False, True):
        model, _ = transfer_weights(trained(), ["dark", "light"], None)
        data = Dataset("drawn", model.classes, model.preprocessing, lambda split: splits)
        found.append(fit_head(model, data, balanced=balanced).figures.recall[1])
    assert found[0] < 0.3 and found[1] > 0.6, found


def test_a_head_that_is_no_line_is_refused():
    model = VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1, num_classes=0)
    with pytest.raises(ConfigError, match=r"needs a model whose `head` is an nn\.Linear; this model's is a Identity"):
        attach_record(model, ModelRecord((), model.preprocessing))
        fit_head(model, Dataset("none", (), Preprocessing(), lambda split: drawn(1, 0)))


def test_no_epochs_are_for_a_trained_model_only():
    with pytest.raises(ConfigError, match="--epochs 0 trains nothing"):
        Recipe(epochs=0.0)
