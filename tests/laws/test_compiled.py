"""A model compiles into one graph and computes the same; `watch` sees it through its eager module."""

import pytest
import torch

from tiny import tiny_vit
from vitral import watch
from vitral.explain import attention
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import SinCosStart
from vitral.nn.head import MLPHead
from vitral.nn.packed import packed

PARTS = {
    "lecture": {},
    "small": dict(mixer=QKNormAttention, position=SinCosStart),
    "mean pool and hidden head": dict(pool=MeanPool, head=MLPHead),
    "registers": dict(tokens={"cls_token": 1, "reg_token": 2}),
}


@pytest.fixture(autouse=True)
def forgetful():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_a_compiled_model_is_one_graph_and_equals_the_eager_one(parts, images):
    model = tiny_vit(**parts)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images), model(images))
    parameters = list(model.parameters())
    found, expected = (torch.autograd.grad(one(images).sum(), parameters) for one in (compiled, model))
    torch.testing.assert_close(found, expected)


def test_features_compile_into_one_graph(vit, images):
    compiled = torch.compile(lambda x: vit.features(x, [0, -1]), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images), vit.features(images, [0, -1]))


@pytest.mark.parametrize("ran_before", [False, True], ids=["fresh", "already compiled"])
@pytest.mark.parametrize("in_place", [False, True], ids=["torch.compile(model)", "model.compile()"])
@torch.no_grad()
def test_a_compiled_model_is_watched_through_its_eager_module(vit, images, ran_before, in_place):
    with watch(vit, rows="all") as expected:
        plain = vit(images)
    if in_place:
        vit.compile(backend="eager")
    compiled = vit if in_place else torch.compile(vit, backend="eager")
    if ran_before:
        compiled(images)
    with watch(compiled, rows="all") as seen:
        watched = compiled(images)
    assert torch.equal(watched, plain)
    assert [layer.name for layer in seen.layers] == ["blocks.0.attn", "blocks.1.attn", "blocks.2.attn"]
    for layer, wanted in zip(seen.layers, expected.layers, strict=True):
        assert torch.equal(layer.weights(), wanted.weights())
        assert layer.roles[0] == "cls"
    torch.testing.assert_close(compiled(images), plain)


def test_after_watching_a_model_compiles_as_before(vit, images):
    with torch.no_grad(), watch(vit):
        vit(images)
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compile(vit, backend=counting, fullgraph=True)(images)
    assert len(graphs) == 1


def test_a_compiled_model_is_explained_like_its_eager_module(vit, images):
    expected = attention(vit, images)
    maps = attention(torch.compile(vit, backend="eager"), images)
    assert maps.layers == expected.layers
    torch.testing.assert_close(torch.from_numpy(maps.values), torch.from_numpy(expected.values))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_a_packed_model_is_compiled_and_exported_as_the_plain_one(images):
    model = tiny_vit()
    with torch.no_grad():
        program = torch.export.export(packed(model), (images,))
        assert "mkldnn" not in program.graph_module.code
        torch.testing.assert_close(program.module()(images), model(images))
        torch.testing.assert_close(torch.compile(packed(model), backend="eager", fullgraph=True)(images), model(images))
