"""`watch` gives no map rather than a wrong one, and says why."""

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import nn

from tiny import redraw, tiny_vit
from vitral import watch
from vitral.base.errors import UsageError, WatchError
from vitral.explain import attention
from vitral.nn.family.mixer import NoMixing
from vitral.recording import calls

CORRUPTIONS = {
    "another query's row": lambda rows: rows.roll(1, 2),
    "another head's row": lambda rows: rows.roll(1, 1),
    "another image's row": lambda rows: rows.roll(1, 0),
    "keys in another order": lambda rows: rows.flip(-1),
    "a little of another row": lambda rows: 0.999 * rows + 0.001 * rows.flip(-1),
    "uniform": lambda rows: torch.full_like(rows, 1 / rows.shape[-1]),
    "not a number": lambda rows: rows * float("nan"),
    "one query only": lambda rows: torch.cat([rows[:, :, :-1], rows[:, :, -1:].flip(-1)], 2),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
@pytest.mark.parametrize("rows", [[0, 3], "all"], ids=str)
@torch.no_grad()
def test_wrong_rows_are_refused(vit, images, monkeypatch, corrupt, rows):
    attention_rows = calls.attention_rows
    monkeypatch.setattr(calls, "attention_rows", lambda *args: corrupt(attention_rows(*args)))
    message = r"blocks\.0\.attn could not be verified.*Vitral shows no map"
    with pytest.raises(WatchError, match=message), watch(vit, rows):
        vit(images)


@pytest.fixture
def wrong(monkeypatch):
    """Rows with their keys in another order."""
    attention_rows = calls.attention_rows
    monkeypatch.setattr(calls, "attention_rows", lambda *args: attention_rows(*args).flip(-1))


@torch.no_grad()
def test_wrong_rows_give_no_maps(vit, images, wrong):
    with pytest.raises(WatchError, match="could not be verified"):
        attention(vit, images)


@torch.no_grad()
def test_wrong_rows_of_torchs_own_module_are_refused(wrong):
    model = redraw(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True))
    with pytest.raises(WatchError, match="self_attn could not be verified"), watch(model, [0]):
        model(torch.randn(2, 5, 8))


class Dropping(nn.Module):
    """Attention that is dropped at random while the model trains."""

    num_prefix_tokens = 1

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)


def test_attention_that_is_dropped_at_random_is_shown_as_it_was_used():
    x = torch.randn(1, 2, 10, 4)
    with watch(Dropping(), "all") as seen:
        out = Dropping()(x)
    weights = seen.layers[0].weights()
    assert (weights == 0).float().mean() > 0.2  # half of the weights were dropped, the rest are twice as large
    torch.testing.assert_close(weights @ x, out)


def test_a_fused_kernel_that_drops_at_random_is_refused_with_advice(monkeypatch):
    model = redraw(nn.TransformerEncoderLayer(8, 2, 8, dropout=0.5, batch_first=True)).train()
    x = torch.randn(2, 5, 8)
    with watch(model, "all") as seen:
        model(x)
    assert (seen.layers[0].weights() == 0).any()
    # Of the kernel's own dropout nothing is known: its output differs from the weights without it.
    attention_rows = calls.attention_rows
    monkeypatch.setattr(calls, "attention_rows", lambda *args: F.dropout(attention_rows(*args)))
    fused = redraw(nn.MultiheadAttention(8, 2, batch_first=True)).train()
    with pytest.raises(WatchError, match=r"training mode.*call model\.eval\(\)"), watch(fused, [0]):
        fused(x, x, x, need_weights=False)


@torch.no_grad()
def test_seeing_nothing_is_an_error_that_names_what_was_called(images):
    model = tiny_vit(mixer=NoMixing)
    with pytest.raises(WatchError) as caught, watch(model):
        model(images)
    message = str(caught.value)
    assert "No attention was seen" in message
    for wanted in ("scaled_dot_product_attention", "nn.MultiheadAttention", "softmax", "VisionTransformer"):
        assert wanted in message
    for called in ("gelu", "linear", "layer_norm", "conv2d"):
        assert called in message.partition("called:")[2]


def test_a_model_that_was_never_run_called_nothing(vit):
    with pytest.raises(WatchError, match="called: nothing"), watch(vit):
        pass


def test_an_error_inside_the_block_is_not_hidden_by_seeing_nothing(vit):
    with pytest.raises(ZeroDivisionError), watch(vit):
        raise ZeroDivisionError


class Gates(nn.Module):
    """Softmaxes that are no attention: over another axis, and over experts."""

    def forward(self, x):
        over_queries = (x @ x.transpose(1, 2)).softmax(dim=1)
        experts = x.softmax(dim=-1)
        return over_queries @ x, experts @ torch.ones(x.shape[-1], 2)


@torch.no_grad()
def test_a_softmax_that_is_no_attention_is_not_taken_for_it():
    model = Gates()
    with pytest.raises(WatchError, match="No attention was seen"), watch(model, [0]):
        model(torch.randn(2, 10, 4))


@torch.no_grad()
def test_keys_that_are_not_tokens_are_refused():
    x = torch.randn(2, 5, 8)
    for option in ("add_bias_kv", "add_zero_attn"):
        model = redraw(nn.MultiheadAttention(8, 2, batch_first=True, **{option: True}))
        with pytest.raises(WatchError, match=option), watch(model, [0]):
            model(x, x, x)


@torch.no_grad()
def test_rows_that_were_not_kept_or_do_not_exist_are_refused(vit, images):
    with watch(vit, rows=[0, 2]) as seen:
        vit(images)
    layer = seen.layers[1]
    with pytest.raises(UsageError, match=r"\[1\] were not recorded; recorded: \[0, 2\].*rows=\"all\""):
        layer.rows([0, 1])
    with pytest.raises(UsageError, match="were not recorded"):
        layer.weights()
    for missing in (7, -1):
        with pytest.raises(UsageError, match=r"do not exist: blocks\.1\.attn has 7 tokens, 0 to 6"):
            layer.rows([missing])


@pytest.mark.parametrize("rows", [[7], [-1], [0, 99]])
@torch.no_grad()
def test_rows_that_no_token_has_are_refused_as_the_model_runs(vit, images, rows):
    with pytest.raises(UsageError, match="the model has 7 tokens, 0 to 6"), watch(vit, rows):
        vit(images)


@torch.no_grad()
def test_without_a_class_token_there_is_no_row_of_cls():
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    with pytest.raises(UsageError, match=r"16 tokens are all patches.*rows=\[\.\.\.\]"), watch(model):
        model(torch.randn(1, 16, 8))


@torch.no_grad()
def test_a_number_of_tokens_that_says_nothing_needs_the_number_before_the_patches():
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    x = torch.randn(1, 10 * 10 + 17, 8)
    with pytest.raises(UsageError, match="num_prefix_tokens="), watch(model):
        model(x)
    with watch(model, num_prefix_tokens=2) as seen:
        model(x)
    assert seen.layers[0].rows([0, 1]).shape == (1, 2, 2, 117)


@pytest.mark.parametrize("rows", ["columns", 0, [], ()], ids=repr)
def test_the_watchers_message_names_the_ways_to_say_rows(vit, rows):
    # in the typed run, a type is refused first
    with pytest.raises((UsageError, TypeCheckError), match=r'give "prefix", "all" or a list|Type-check error'):
        watch(vit, rows=rows)
