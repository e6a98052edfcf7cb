"""The number of random orders, and the correction for several methods that are tested together."""

from itertools import pairwise
from typing import get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_trust import Half, OnePatch, some_maps

from vitral import explain
from vitral.base.errors import UsageError
from vitral.base.p_values import holm
from vitral.cli.explain import Options
from vitral.explain.observation import observe
from vitral.explain.trials import FEWER_ORDERS, ORDERS, SMALL_GRID, Trials, trust
from vitral.explain.trust import NO_TEST, Trust, correct_together, least_orders


def brute_force(ps):
    """Holm by his own procedure: the least level at which each hypothesis is rejected, among those that matter."""
    levels = sorted({min(1.0, p * factor) for p in ps for factor in range(1, len(ps) + 1)} | {1.0})

    def rejected(level):
        found = set()
        for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
            if ps[place] * (len(ps) - rank) > level:
                break
            found.add(place)
        return found

    return [next((level for level in levels if place in rejected(level)), 1.0) for place in range(len(ps))]


@given(st.lists(st.integers(1, 40).map(lambda k: k / 40), min_size=1, max_size=7))
def test_holm_equals_his_own_procedure(ps):
    corrected = holm(ps)
    assert corrected == pytest.approx(brute_force(ps))
    assert all(own >= p for own, p in zip(corrected, ps))
    ordered = [corrected[place] for place in np.argsort(ps, kind="stable")]
    assert all(low <= high for low, high in pairwise(ordered))
    assert holm(ps[:1]) == ps[:1]


def beating(orders, ties=0):
    """The test of a map that does better than all orders but some."""
    return Trust(0.1, (0.1,) * ties + (0.5,) * (orders - ties), 0.0, "disk")


@pytest.mark.parametrize("methods", range(1, 41))
def test_the_least_number_of_orders_decides_and_one_fewer_does_not(methods):
    enough = least_orders(methods)
    for orders, verdict in ((enough, "better than chance"), (enough - 1, "too few orders")):
        tests = correct_together([beating(orders)] * methods)
        assert {one.verdict for one in tests} == {verdict}
    assert f"Too few orders: {enough - 1} cannot decide" in tests[0].sentence
    assert f"; {enough} would do." in tests[0].sentence


def test_a_method_alone_is_not_corrected():
    (alone,) = correct_together([beating(39, 1)])
    assert alone == beating(39, 1) and alone.p_corrected == alone.p == 2 / 40
    assert "tested together" not in alone.sentence


def test_methods_that_pass_alone_may_not_pass_together_and_the_caption_says_so():
    tests = correct_together([beating(59), beating(59, 2), beating(59, 30)])
    assert [one.verdict for one in tests] == ["better than chance", *["inconclusive for a single image"] * 2]
    assert beating(59, 2).better_than_chance
    assert [one.p_corrected for one in tests] == pytest.approx([3 / 60, 2 * 3 / 60, 31 / 60])
    assert "(p = 0.05; 0.10 after correction, because 3 methods were tested together)" in tests[1].sentence


def test_worse_than_chance_is_corrected_as_well():
    worst = Trust(0.9, (0.5,) * 39, 0.0, "disk")
    assert worst.verdict == "worse than chance"
    tests = correct_together([worst, beating(39), Trust(0.9, (0.9, 0.9, *(0.5,) * 37), 0.0, "disk")])
    assert {one.verdict for one in tests} == {"too few orders"}  # 39 of 59
    several = correct_together([Trust(0.9, (0.9,) * ties + (0.5,) * (59 - ties), 0.0, "disk") for ties in (0, 2)])
    assert [one.verdict for one in several] == ["worse than chance", "worse than chance"]
    assert "2 methods were tested together" in several[0].sentence


def test_what_cannot_be_tested_does_not_count():
    blank = Trust(float("nan"), (), 0.0, "disk", untested="The map ranks no patch, so it cannot be tested.")
    tests = correct_together([blank, beating(19), blank])
    assert [one.verdict for one in tests] == ["cannot be tested", "better than chance", "cannot be tested"]
    assert tests[1].together == 1


@pytest.mark.parametrize(("grid", "methods", "orders"), [(6, 1, 300), (6, 21, 419), (9, 1, 39), (9, 2, 39), (9, 3, 59)])
def test_the_default_number_of_orders_can_decide(grid, methods, orders):
    trials = Trials(observe(Half().eval(), torch.ones(1, 3, 18, 18), ["feature maps"]))
    assert trials.orders_for((grid, grid), methods) == orders >= least_orders(methods)
    assert Trials(trials.observation, 7).orders_for((grid, grid), methods) == 7


def test_the_help_states_the_default_numbers_of_orders():
    (option,) = get_type_hints(Options, include_extras=True)["orders"].__metadata__
    numbers = f"By default {FEWER_ORDERS} on grids of more than {SMALL_GRID} patches and {ORDERS} on others"
    assert numbers in option.sentence


def test_methods_are_tested_with_the_same_orders_which_begin_alike_whatever_their_number():
    model, images = Half().eval(), torch.ones(1, 3, 18, 18)
    found = [some_maps(np.random.default_rng(seed).random((1, 9, 9))) for seed in range(3)]
    together = [one for (one,) in Trials(observe(model, images, ["feature maps"])).trust_together(found)]
    (alone,) = trust(model, images, found[0])
    assert {one.by_chance for one in together} == {together[0].by_chance} and len(together[0].by_chance) == 59
    assert together[0].by_chance[:39] == alone.by_chance and together[0].area == alone.area
    assert [one.p_corrected for one in together] == pytest.approx(holm([one.p for one in together]))


@pytest.mark.parametrize("orders", [1, 2, 18, 19, 25])
def test_as_many_orders_are_run_as_were_requested(orders):
    model, images = OnePatch(2, 3).eval(), torch.ones(1, 3, 24, 24)
    (found,) = trust(model, images, explain.occlusion(model, images), orders)
    assert len(found.by_chance) == orders
    assert (found.verdict == "too few orders") == (orders < 19)


def test_without_orders_no_test_is_run_and_the_caption_says_so():
    model, images = OnePatch(2, 3).eval(), torch.ones(1, 3, 24, 24)
    maps, passes = explain.occlusion(model, images), []
    model.register_forward_hook(lambda module, args, output: passes.append(len(args[0])))
    trials = Trials(observe(model, images, ["feature maps"]), 0)
    passes.clear()
    ((found,),) = trials.trust_together([maps])
    assert found.verdict == "not tested" and found.sentence == NO_TEST and not passes
    assert explain.tested(model, images, maps, 0).verdicts == ("not tested",)


def test_a_negative_number_of_orders_is_refused():
    model, images = OnePatch(2, 3).eval(), torch.ones(1, 3, 24, 24)
    with pytest.raises(
        UsageError, match=r"orders=-1 is not a number of random orders: give a whole number, 19 or more"
    ):
        trust(model, images, explain.occlusion(model, images), -1)


def test_the_orders_are_reported_as_they_are_run(monkeypatch):
    monkeypatch.setattr("vitral.explain.trials.PIXELS", 24 * 24 * 24)  # two orders at a time
    model, images, seen = OnePatch(2, 3).eval(), torch.ones(1, 3, 24, 24), []
    trials = Trials(observe(model, images, ["feature maps"]), 20, lambda done, total: seen.append((done, total)))
    trials.trust(explain.occlusion(model, images))
    assert seen == [(done, 20) for done in range(0, 20, 2)]


def test_the_caption_states_the_precision_where_it_is_not_that_of_the_image():
    exact = Trust(0.1, (0.5,) * 39, 0.0, "disk")
    rounded = Trust(0.1, (0.5,) * 39, 0.0, "disk", difference=0.0021)
    assert "bfloat16" not in exact.sentence
    assert "computed in bfloat16; with no patch covered, they differ from float32 by at most 0.002." in rounded.sentence
