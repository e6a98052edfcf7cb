"""What every method of explanation promises; a new file in `explain/methods` is enrolled by being there."""

import inspect
import re
import sys

import numpy as np
import pytest
import torch
from einops import rearrange

import vitral.explain
from tiny import tiny_vit
from vitral import Maps
from vitral.base.errors import UsageError
from vitral.base.lookup import find, names
from vitral.explain.entry import explainer
from vitral.explain.method import Method, PatchMap
from vitral.explain.metric import rank_correlation
from vitral.nn.family.mixer import NoMixing, QKNormAttention
from vitral.nn.family.position import NoPosition

METHODS, CONTROLS = names("explain.methods"), names("explain.controls")
PIXELS = {"input_gradient", "integrated_gradients", "occlusion"}  # ask nothing of a model but its answer
every = pytest.mark.parametrize("method", METHODS + CONTROLS)


def method_of(name):
    """The method as a function of a model and images."""
    return explainer(declared(name))


def declared(name):
    return find("explain.methods" if name in METHODS else "explain.controls", name, "method")


def test_there_are_methods():
    assert "attention" in names("explain.methods")


@every
def test_a_file_holds_the_function_it_is_named_after_and_says_where_it_comes_from(method):
    function = declared(method)
    module = sys.modules[function.__module__]
    assert isinstance(function, Method) and function.name == method
    assert method in CONTROLS or getattr(vitral.explain, method).__doc__ == function.__doc__
    assert module.__doc__.startswith(f"`{method}`")
    assert re.search(r"\b(19|20)\d\d\b", module.__doc__)  # a source
    assert "Raises" in function.__doc__


@every
def test_it_takes_a_model_images_and_a_target_and_the_rest_by_name(method):
    parameters = list(inspect.signature(method_of(method)).parameters.values())
    assert [parameter.name for parameter in parameters[:3]] == ["model", "images", "target"]
    assert parameters[2].default is None
    for parameter in parameters[3:]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


@every
@pytest.mark.parametrize(
    "parts",
    [{}, {"mixer": QKNormAttention}, {"tokens": {"cls_token": 1, "reg_token": 2}}, {"img_size": (4, 30), "depth": 1}],
    ids=str,
)
def test_it_gives_maps_of_the_models_grid(method, parts):
    model = tiny_vit(**parts)
    images = torch.randn(2, 3, *model.patch_embed.img_size)
    maps = method_of(method)(model, images)
    assert isinstance(maps, Maps)
    assert maps.method == method
    assert maps.values.shape == (2, len(maps.layers), len(maps.heads), *model.grid)
    assert maps.prefix_mass.shape == maps.values.shape[:3]
    assert maps.pixels.shape == (2, *model.patch_embed.img_size, 3)
    assert np.isfinite(maps.values).all()
    assert np.isfinite(maps.prefix_mass).all()
    assert maps.values.std() > 1e-3
    assert maps.residual is None or 0 <= maps.residual < 1e-4
    assert (maps.residual is None) == ("Checked" not in maps.caption)
    assert not maps.targets or all(name in maps.caption_of(image) for image, name in enumerate(maps.class_names))
    assert maps.explained.endswith(".")
    assert maps.unit
    assert maps.sign in ("positive", "signed")
    assert maps.sign == "signed" or maps.values.min() >= 0


@pytest.mark.parametrize(
    ("shape", "more", "message"),
    [
        ((2, 3, 2), {}, "does not fit a grid of 2 x 3"),
        ((2, 5), {}, "does not fit"),
        ((2, 6), {"heads": (0, 1)}, "2 heads"),
    ],
    ids=["turned", "too few", "heads missing"],
)
def test_a_map_whose_axes_do_not_fit_its_grid_is_refused(shape, more, message):
    with pytest.raises(UsageError, match=message):
        PatchMap(torch.zeros(shape), (2, 3), "Wrong.", **more)
    with pytest.raises(UsageError, match="Signed values"):
        PatchMap(torch.zeros(2, 6), (2, 3), "Wrong.", sign="signed")


@every
def test_it_is_the_same_each_time_and_for_each_image_alone(method, vit, images):
    explain = method_of(method)
    together = explain(vit, images)
    np.testing.assert_array_equal(explain(vit, images).values, together.values)
    for place in range(2):
        alone = explain(vit, images[[place]]).values[0]
        np.testing.assert_allclose(alone, together.values[place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_another_map_than_noise(method):
    """Two draws of noise have nothing in common; a method's maps of two models of the same weights are the same."""
    model, again = tiny_vit(), tiny_vit()
    images = torch.randn(8, 3, 8, 18, generator=torch.Generator().manual_seed(0))
    maps = method_of(method)(model, images).merged
    noise = method_of("random")(model, images).merged
    assert np.median(rank_correlation(maps, method_of(method)(again, images).merged)) > 0.999
    assert abs(np.median(rank_correlation(maps, noise))) < 0.5


@pytest.mark.parametrize("method", [*METHODS, "untrained"])
@pytest.mark.parametrize("tokens", [{"cls_token": 1, "reg_token": 2}, {"cls_token": 1}], ids=["registers", "cls"])
def test_a_value_stands_where_its_patch_does(method, tokens):
    """Without positions a model sees a bag of patches: exchange some, and their values are exchanged, on any grid."""
    model = tiny_vit(img_size=(8, 30), tokens=tokens, position=NoPosition)
    images = torch.randn(2, 3, 8, 30, generator=torch.Generator().manual_seed(0))
    target = model(images).argmax(1).tolist()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    patches = rearrange(images, "b c (gy y) (gx x) -> b (gy gx) c y x", gy=2, gx=5)[:, order]
    moved = rearrange(patches, "b (gy gx) c y x -> b c (gy y) (gx x)", gy=2)
    maps = method_of(method)(model, images, target).values.reshape(2, -1, 10)
    again = method_of(method)(model, moved, target).values.reshape(2, -1, 10)
    np.testing.assert_allclose(again, maps[:, :, order.numpy()], rtol=2e-3, atol=2e-3 * np.abs(maps).max())


@every
def test_it_leaves_the_model_as_it_was(method, vit, images):
    vit.train()
    vit.blocks[0].eval()
    before = {name: (id(p), p.clone(), p.requires_grad) for name, p in vit.named_parameters()}
    modes = [module.training for module in vit.modules()]
    given = images.clone()
    method_of(method)(vit, images)
    assert [module.training for module in vit.modules()] == modes
    for name, parameter in vit.named_parameters():
        identity, value, requires_grad = before[name]
        assert (id(parameter), parameter.requires_grad, parameter.grad) == (identity, requires_grad, None)
        assert torch.equal(parameter, value)
    assert not any(module._forward_hooks or module._backward_hooks for module in vit.modules())
    assert torch.equal(images, given)


@pytest.mark.parametrize("method", sorted({*METHODS, "untrained"} - PIXELS))
def test_it_refuses_a_model_in_which_it_can_see_nothing(method, images):
    with pytest.raises(vitral.base.errors.VitralError):
        method_of(method)(tiny_vit(mixer=NoMixing), images)


@every
def test_its_maps_can_be_shown_and_saved(method, vit, images, tmp_path):
    maps = method_of(method)(vit, images)
    assert maps._repr_png_().startswith(b"\x89PNG")
    for name in ("map.png", "map.npz"):
        assert all(path.stat().st_size > 100 for path in maps.save(tmp_path / name))
