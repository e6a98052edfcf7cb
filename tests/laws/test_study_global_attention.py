"""What a first block depends on: a ViT's on every pixel, a convolution's on its neighbourhood and nothing else."""

import numpy as np
import pytest
import torch

from tiny import redraw
from vitral.nn.family.mixer import DepthwiseMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.vit import VisionTransformer
from vitral.studies.arms import DWCONV3, RESNET, SAMPLES, SHAPES, VIT, untrained
from vitral.studies.claims.global_attention import reach, reach_and_distance, sensitivity
from vitral.studies.running.plan import training_for
from vitral.studies.study import Budget, Condition
from vitral.studies.training import Trained

PATCH, SIDE = 8, 48


def randomised(**parts):
    """Random weights, with which no block is the identity."""
    sizes = dict(img_size=SIDE, patch_size=PATCH, num_classes=5, embed_dim=16, depth=2, num_heads=2)
    return redraw(VisionTransformer(**sizes, tokens={}, pool=MeanPool, **parts), deviation=0.3)


def images(n=4):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_a_vits_first_block_depends_on_every_pixel():
    assert (sensitivity(randomised(), images(), 0) > 0).all()


def test_a_convolution_depends_on_nine_patches_and_on_nothing_else():
    mass = sensitivity(randomised(mixer=DepthwiseMixing), images(), 0)
    middle = SIDE // PATCH // 2
    near = np.zeros((SIDE, SIDE), bool)
    near[(middle - 1) * PATCH : (middle + 2) * PATCH, (middle - 1) * PATCH : (middle + 2) * PATCH] = True
    assert (mass[near] > 0).all() and (mass[~near] == 0).all()


def test_uniform_mass_has_reach_one_and_a_point_at_the_centre_almost_zero():
    even, point = np.ones((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    point[28, 28] = 1  # of the patch in row and column 3 of 6
    assert reach(even, (6, 6)) == pytest.approx(1)
    assert reach(point, (6, 6)) < 0.05
    assert 0 < reach(np.eye(SIDE), (1, 1)) != reach(np.eye(SIDE), (6, 6))


@pytest.mark.parametrize("arm", [untrained(VIT), untrained(DWCONV3), untrained(RESNET)])
def test_every_arm_can_be_measured(arm):
    training = training_for(
        arm, Condition("shapes", SHAPES.replace("n=40000", "n=8")), Budget(SAMPLES, 1, eval_images=8), 0, 1.0
    )
    found = reach_and_distance(Trained(training.build(), training.dataset(), training, {}, {}))
    assert all(0 < value < 1.2 for value in found["reach"])
    assert ("heads" in found) == arm.name.startswith("vit")
