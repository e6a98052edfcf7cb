"""A model is used in eval mode and left as it was."""

import pytest
from torch import nn

from vitral.base.modes import evaluating, frozen


@pytest.mark.parametrize("fails", [False, True])
def test_each_part_is_in_eval_mode_inside_and_in_its_own_afterwards(vit, fails):
    vit.train()
    vit.blocks[1].eval()
    before = {name: module.training for name, module in vit.named_modules()}
    try:
        with evaluating(vit):
            assert not any(module.training for module in vit.modules())
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert {name: module.training for name, module in vit.named_modules()} == before
    assert len(set(before.values())) == 2


def test_frozen_parameters_ask_again_for_what_they_asked():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    before = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(ValueError), frozen(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise ValueError
    assert [parameter.requires_grad for parameter in model.parameters()] == before == [True, True, False, False]
