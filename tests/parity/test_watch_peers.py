"""What `watch` sees in other people's models is what they themselves compute, and they compute what they did before.

The table in `docs/parity.md` is written by this test: `VITRAL_WRITE_PARITY=1 pytest tests/parity/test_watch_peers.py`.
"""

import math
import os
from pathlib import Path

import pytest
import torch

from peers import PEERS, peer
from vitral import watch
from vitral.recording.forward import output_tensor

TABLE = Path(__file__).parent.parent.parent / "docs" / "parity.md"
CLOSE = 2e-6
rows: dict[str, str] = {}


def bound(value: float) -> str:
    """The power of ten that a number stays below."""
    return "0" if value == 0 else f"1e{math.floor(math.log10(value)) + 1:d}"


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_the_maps_are_the_models_own_and_nothing_is_changed(name):
    made = peer(name)
    images = made.images()
    plain = output_tensor(made.model(images))
    with watch(made.model, rows="all") as seen:
        watched = output_tensor(made.model(images))
    assert torch.equal(watched, plain)
    expected = made.reference(made.model, images)
    assert len(seen.layers) == len(expected)
    apart = 0.0
    for layer, weights in zip(seen.layers, expected):
        assert layer.weights().shape == weights.shape
        apart = max(apart, float((layer.weights() - weights).abs().max()))
    assert apart < CLOSE
    assert seen.residual < CLOSE
    last = seen.layers[-1]
    assert last.tokens.prefix == made.prefix
    assert last.tokens.grid == made.grid
    assert (last.windows is not None) == made.windows
    rows[name] = f"| {name} | {len(seen.layers)} | {bound(apart)} | bit for bit | {bound(seen.residual)} |"


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_the_default_sees_the_row_of_cls_where_there_is_one(name):
    made = peer(name)
    if made.prefix[:1] != ("cls",):
        pytest.skip("no CLS")
    images = made.images()
    with watch(made.model) as seen:
        made.model(images)
    for layer, weights in zip(seen.layers, made.reference(made.model, images)):
        torch.testing.assert_close(layer.rows([0]), weights[:, :, :1], atol=CLOSE, rtol=0)


def test_the_table_in_the_docs_is_this_tests():
    if len(rows) < len(PEERS):
        pytest.skip("some families were not run")
    head = [
        "# Whose attention `watch` has been held against",
        "",
        "Made by `VITRAL_WRITE_PARITY=1 pytest tests/parity/test_watch_peers.py`: small models with random weights,",
        "float32, fused kernels as they come. *Apart* is the largest difference of any weight from the peer's own,",
        "formed with its fused kernels off; *residual* is |rows · v − output| over the largest output. Each is below",
        "the bound given.",
        "",
        "| family | layers | apart | output | residual |",
        "|---|---|---|---|---|",
    ]
    text = "\n".join([*head, *(rows[name] for name in PEERS), ""])
    if os.environ.get("VITRAL_WRITE_PARITY"):
        TABLE.write_text(text, encoding="utf-8")
    written = TABLE.read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1:3] for line in written[9:]] == [line.split("|")[1:3] for line in text.splitlines()[9:]]
