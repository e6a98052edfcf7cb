"""Rows of attention that a traced graph gives: they sum to one, are those of `watch`, and their residual tells."""

import os

import numpy as np
import onnx
import pytest
import torch

from tiny import redraw, tiny_vit
from vitral import create, explain, watch
from vitral.base.errors import WatchError
from vitral.base.record import ModelRecord, attach_record
from vitral.exporting.maps import AnsweringWithMaps, plan_maps
from vitral.exporting.to_onnx import ANY, write_graph
from vitral.nn.family.pool import MeanPool
from vitral.recording.traced import trace_rows
from vitral.store.artifact_maps import ArtifactMaps, LayerRows
from vitral.store.runtimes.onnx import OnnxSession
from vitral.weights.artifact import ArtifactModel
from vitral.weights.artifact_maps import handed_out

SMALL = dict(num_classes=3, embed_dim=32, depth=2, num_heads=2)
MODELS = {  # and the tokens whose rows are averaged in the last layer; none for all
    "vit_nano_patch4_32": (dict(img_size=(16, 24), num_classes=3), [0]),
    "deit_tiny_distilled_patch16_224": (SMALL | dict(img_size=32), [0, 1]),
    "vit_small_patch14_reg4_dinov2": (SMALL | dict(img_size=28), [0]),
    "vit_small_patch16_dinov3": (SMALL | dict(img_size=32), [0]),
    "vit_base_patch16_siglip_224": (SMALL | dict(img_size=32), []),
    "simplevit_tiny_patch16_224": (SMALL | dict(img_size=(32, 48)), [0, 1, 2, 3, 4, 5]),
    "vit_nano_patch8_48": (dict(num_classes=3, in_channels=1), [0]),
}


def with_maps(model):
    redraw(model, deviation=0.1)
    attach_record(model, ModelRecord(("cat", "dog", "fish"), model.preprocessing))
    plan = plan_maps(model, "all of it")
    return AnsweringWithMaps(model, plan), plan.maps


@pytest.mark.parametrize("name", MODELS)
def test_the_rows_of_every_family(name):
    settings, queries = MODELS[name]
    model = create(name, **settings)
    graph, maps = with_maps(model)
    assert maps.layers[-1].queries == queries and maps.names == ["rows", "residual"]
    for batch in (1, 2, 7):
        images = torch.randn(batch, len(model.preprocessing.mean), *model.preprocessing.size)
        with torch.no_grad():
            _, logits, rows, residual = graph(images)
            with watch(model, "all") as seen:
                torch.testing.assert_close(logits, model(images))
        expected = [
            one.weights()[:, :, row.queries or slice(None)].mean(2) for one, row in zip(seen.layers, maps.layers)
        ]
        torch.testing.assert_close(rows, torch.stack(expected, dim=1), atol=1e-5, rtol=0)
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:3]))
        assert residual.shape == (batch, len(maps.layers)) and residual.max() < 1e-5


@pytest.mark.parametrize("size", [(48, 48), (40, 52)], ids=["whole windows", "padded"])
def test_rows_within_windows_are_put_together(size):
    model = create("swin_nano_patch2_window6_48", num_classes=3, img_size=size)
    graph, maps = with_maps(model)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        _, _, *rows, residual = graph(images)
    assert maps.names == ["rows_0", "rows_1", "residual"]  # of the grids of two stages
    sums = torch.cat([one.sum(-1).flatten() for one in rows])
    assert bool((sums <= 1 + 1e-5).all()) and bool((sums > 0.99).all()) == (size == (48, 48))
    assert residual.max() < 1e-5
    shown = explain.attention(model, images)
    given = rows[-1] / rows[-1].sum(-1, keepdim=True) * rows[-1].shape[-1]  # in multiples of uniform
    np.testing.assert_allclose(given.flatten(), shown.values.flatten(), atol=1e-4)


@pytest.mark.skipif(bool(os.environ.get("VITRAL_TYPED")), reason="a number of images that is traced is not an int")
def test_the_residual_is_large_where_a_graph_gives_other_rows(tmp_path):
    """In the file, as ONNX Runtime runs it: the logits of a layer's rows are doubled before their softmax."""

    def is_row(sides):
        return sides is not None and len(sides) == 4 and sides[2].dim_value == 1

    graph, maps = with_maps(tiny_vit(num_classes=3))
    images = torch.randn(2, 3, 8, 18)
    file = tmp_path / "model.onnx"
    write_graph(graph, images, {0: ANY}, file, ["pixels"], ["probabilities", "logits", *maps.names])
    given = ArtifactModel(OnnxSession(file), (8, 18), maps=maps).hand_out(images)
    with torch.no_grad(), watch(graph.answering.model) as seen:
        graph.answering.model(images)
    for one, other in zip(given.recording.layers, seen.layers, strict=True):
        torch.testing.assert_close(one.rows([0]), other.rows([0]), atol=1e-5, rtol=0)

    proto = onnx.load(file)
    shapes = {one.name: one.type.tensor_type.shape.dim for one in proto.graph.value_info}
    of_rows = [one for one in proto.graph.node if one.op_type == "Softmax" and is_row(shapes.get(one.output[0]))]
    assert len(of_rows) == 3
    place = list(proto.graph.node).index(of_rows[1])
    doubled = onnx.helper.make_node("Add", [of_rows[1].input[0], of_rows[1].input[0]], ["doubled"])
    of_rows[1].input[0] = "doubled"
    proto.graph.node.insert(place, doubled)
    onnx.save(proto, file)
    outputs = OnnxSession(file).run({"pixels": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs["logits"]), given.answer)  # the answer is as it was
    residual = outputs["residual"]
    assert residual[:, [0, 2]].max() < 1e-5 and residual[:, 1].min() > 1e-2
    with pytest.raises(WatchError, match=r"blocks.1.attn could not be verified"):
        ArtifactModel(OnnxSession(file), (8, 18), maps=maps).hand_out(images)


def test_nothing_is_left_behind_and_the_layers_are_counted():
    model = tiny_vit(num_classes=3)
    images = torch.randn(2, 3, 8, 18)
    with torch.no_grad():
        before = model(images)
        with pytest.raises(WatchError, match="attends more than 2 times"), trace_rows([(0,), (0,)]):
            model(images)
        with trace_rows([(0,)] * 3) as seen:
            within = model(images)
        torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    torch.testing.assert_close(within, before, rtol=0, atol=0)
    assert len(seen.rows) == 3


def test_a_mean_pool_and_a_prefix_that_is_not_read():
    model = tiny_vit(num_classes=3, pool=MeanPool)
    graph, maps = with_maps(model)
    assert maps.layers[0].queries == [1, 2, 3, 4, 5, 6] and maps.layers[0].reader == "the mean of all patches"
    images = torch.randn(2, 3, 8, 18)
    with torch.no_grad():
        _, _, rows, _ = graph(images)
    shown = explain.attention(model, images)
    patches = rows[..., 1:] / rows[..., 1:].sum(-1, keepdim=True) * 6
    np.testing.assert_allclose(patches.flatten(), shown.values.flatten(), atol=1e-5)
    np.testing.assert_allclose(rows[..., 0], shown.prefix_mass, atol=1e-5)


def test_a_file_that_does_not_fit_its_description(tmp_path):
    layer = dict(name="a", index=0, reader="CLS", queries=[0], num_queries=5, heads=1, prefix=["cls"], grid=(2, 2))
    maps = ArtifactMaps(layers=[LayerRows(output="rows", **layer)], read_from=[0], among=5, covers="")
    rows, residual = np.full((1, 1, 1, 5), 0.2, "f4"), np.zeros((1, 1), "f4")
    assert handed_out(maps, torch.zeros(1, 3), dict(rows=rows, residual=residual)).recording.layers[0].num_heads == 1
    for wrong in (dict(rows=rows[..., 1:], residual=residual), dict(rows=rows, residual=residual[:, :0])):
        with pytest.raises(Exception, match=r"artifact\.json states"):
            handed_out(maps, torch.zeros(1, 3), wrong)
    with pytest.raises(WatchError, match="could not be verified"):
        handed_out(maps, torch.zeros(1, 3), dict(rows=rows, residual=residual * np.nan))
    for change in (dict(queries=[5]), dict(order=[1, 2, 3, 3]), dict(grid=(0, 4)), dict(index=1)):
        with pytest.raises(ValueError):
            ArtifactMaps(layers=[LayerRows(output="rows", **(layer | change))], read_from=[0], among=5, covers="")
