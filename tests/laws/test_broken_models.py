"""A model of ours with parts missing answers what a model without these parts would."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from tiny import tiny_vit
from vitral.base.errors import UsageError
from vitral.explorer.breaking import Break, broken_output
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import SinCosPosition
from vitral.recording.edits import without_head
from vitral.recording.intercept import watch
from vitral.studies.loops.isolated import isolate_class_token

ORDER = (3, 0, 5, 1, 4, 2)


@pytest.fixture
def model():
    return tiny_vit()


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 18, generator=torch.Generator().manual_seed(0))


def run(model, images):
    with torch.no_grad():
        return model(images)


def test_nothing_missing_changes_nothing(model, images):
    torch.testing.assert_close(broken_output(model, images, Break()), run(model, images))


def test_a_block_that_is_left_out_is_the_identity(model, images):
    without = deepcopy(model)
    without.blocks[1] = nn.Identity()
    torch.testing.assert_close(broken_output(model, images, Break(blocks=(1,))), run(without, images))
    nothing = Break(blocks=(0, 1, 2), heads=((0, 0),), cuts_cls=True)
    without.blocks = nn.ModuleList()
    torch.testing.assert_close(broken_output(model, images, nothing), run(without, images))


def test_heads_are_counted_with_all_blocks(model, images):
    without = deepcopy(model)
    without.blocks[1].attn.proj.weight.data[:, :4] = 0
    without.blocks[0] = nn.Identity()
    broken = Break(blocks=(0,), heads=((1, 0), (0, 2)))
    torch.testing.assert_close(broken_output(model, images, broken), run(without, images))


def test_a_head_that_is_left_out_has_no_columns_in_the_projection(model, images):
    without = deepcopy(model)
    for block, head in ((0, 1), (2, 3)):
        without.blocks[block].attn.proj.weight.data[:, 4 * head : 4 * head + 4] = 0
    broken = broken_output(model, images, Break(heads=((0, 1), (2, 3))))
    torch.testing.assert_close(broken, run(without, images))
    with torch.no_grad(), watch(model, edit=without_head(0, 1)):
        edited = model(images)
    torch.testing.assert_close(broken_output(model, images, Break(heads=((0, 1),))), edited)


def test_cls_that_is_cut_off_is_the_studies_isolated_class_token(model, images):
    with torch.no_grad(), watch(model, rows=[0], edit=isolate_class_token(range(3))):
        isolated = model(images)
    broken = broken_output(model, images, Break(cuts_cls=True))
    torch.testing.assert_close(broken, isolated)
    torch.testing.assert_close(broken[0], broken[1])  # it has nothing of the image


def test_shuffled_positions_are_the_patches_moved_the_other_way(model, images):
    """The order of the sequence itself does not matter to attention, only which position a patch is given."""
    inverse = tuple(sorted(range(6), key=ORDER.__getitem__))
    positions = broken_output(model, images, Break(positions="shuffled", order=ORDER))
    patches = broken_output(model, images, Break(patches="shuffled", order=inverse))
    torch.testing.assert_close(positions, patches)
    assert (positions - run(model, images)).abs().max() > 0.01


def test_without_positions_the_order_of_patches_does_not_matter(model, images):
    zero = broken_output(model, images, Break(positions="zero"))
    both = broken_output(model, images, Break(positions="zero", patches="shuffled", order=ORDER))
    torch.testing.assert_close(zero, both)
    assert (zero - run(model, images)).abs().max() > 0.01


def test_a_fixed_table_is_changed_as_a_learned_one(images):
    model = tiny_vit(position=SinCosPosition)
    zero = broken_output(model, images, Break(positions="zero"))
    without = deepcopy(model)
    without.position.fixed.zero_()
    torch.testing.assert_close(zero, run(without, images))


def test_the_model_is_left_as_it_was(model, images):
    before, state = run(model, images), deepcopy(model.state_dict())
    everything = Break((0,), ((1, 1),), "shuffled", "shuffled", True, ORDER)
    broken_output(model.train(), images, everything)
    assert model.training
    torch.testing.assert_close(run(model.eval(), images), before, rtol=0, atol=0)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Break(blocks=(3,)), "no block 3"),
        (Break(heads=((3, 0),)), "no block 3"),
        (Break(heads=((0, 4),)), "no head 4"),
        (Break(patches="shuffled"), "each number from 0 to 5 once"),
        (Break(positions="shuffled", order=(0, 0, 1, 2, 3, 4)), "each number from 0 to 5 once"),
    ],
)
def test_what_the_model_does_not_have_is_refused(model, images, broken, words):
    with pytest.raises(UsageError, match=words):
        broken_output(model, images, broken)


def test_a_model_without_cls_has_none_to_cut_off(images):
    with pytest.raises(UsageError, match="no CLS"):
        broken_output(tiny_vit(tokens={}, pool=MeanPool), images, Break(cuts_cls=True))
