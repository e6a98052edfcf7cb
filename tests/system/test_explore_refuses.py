"""What `vitral explore` does not make a page of, and why."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vitral as library
from shell import tree
from tiny import tiny_vit, with_record
from vitral.base.errors import UsageError, WatchError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.spec import find_data

RECORD = ModelRecord(tuple("abcde"), Preprocessing((8, 18)))


def test_a_model_without_attention(vitral, quick_run, photos, tmp_path):
    answer = vitral("explore", "base", photos / "dark" / "0.png")
    answer.failed(1, "No attention was seen")
    assert not (tmp_path / "explored").exists()


def test_a_second_model_without_attention_by_name(tmp_path):
    model, without = (
        with_record(tiny_vit()),
        attach_record(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 18, 5)), RECORD),
    )
    pixels = find_data("shapes:n=8,size=32").test.pixels[0]
    with pytest.raises(WatchError, match=r"^Sequential: No attention was seen"):
        library.explore(model, pixels, beside=without, out=tmp_path / "page.html")
    assert tree(tmp_path) == []


def test_untrained_where_a_file_has_this_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "untrained").mkdir()
    pixels = find_data("shapes:n=8,size=32").test.pixels[0]
    with pytest.raises(UsageError, match=r"write \./untrained"):
        library.explore(with_record(tiny_vit()), pixels, beside="untrained", out=tmp_path / "page.html")


def test_methods_that_need_gradients_of_a_model_without_them(tmp_path):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = tiny_vit()

        @torch.no_grad()
        def forward(self, images):
            return self.model(images)

    found = library.explore(
        attach_record(Frozen(), RECORD), find_data("shapes:n=8,size=32").test.pixels[0], out=tmp_path / "page.html"
    )
    text = found.page.read_text(encoding="utf-8")
    assert '"refusedMethods":{"attention_gradient":' in text and '"name":"rollout"' in text


class Dropping(nn.Module):
    """Drops attention in eval mode too, so that no row reproduces what the kernel returned."""

    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 2)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)[:, None]
        return self.head(F.scaled_dot_product_attention(x, x, x, dropout_p=0.5).mean(dim=(1, 2)))


def test_attention_that_cannot_be_verified(tmp_path):
    torch.manual_seed(0)
    model = attach_record(Dropping(), ModelRecord(("a", "b"), Preprocessing((16, 16))))
    pixels = find_data("shapes:n=8,size=16").test.pixels[0]
    with pytest.raises(WatchError, match=r"changed by .* while it was watched"):
        library.explore(model, pixels, out=tmp_path / "page.html")
    assert tree(tmp_path) == []


def test_an_array_of_another_size_is_cut_to_the_models(tmp_path):
    """As everywhere: the page shows the whole photograph with a frame, where that is known."""
    model = with_record(tiny_vit())
    found = library.explore(model, find_data("shapes:n=8,size=32").test.pixels[0], out=tmp_path / "page.html")
    assert found.page == tmp_path / "page.html" and "image-0" in found.page.read_text(encoding="utf-8")
