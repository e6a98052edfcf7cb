"""Where other libraries' Swin computes something else than ours, it is said; where nothing is said, it is the same."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_weights_in import CLASSES, hf_answer, hf_model, images_of, reread

from peers import timm, torchvision, transformers
from tiny import redraw
from vitral.base.errors import ConfigError, StoreError
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.family.swin import SwinTransformer
from vitral.weights.convert import write
from vitral.weights.detection import PADDED_TABLES
from vitral.weights.published import load_published

STAGES = dict(embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=CLASSES)
SIZES = [(32, 32), (48, 64), (32, 48), (24, 24), (28, 28), (30, 30), (36, 40), (40, 40), (32, 16)]
FORMATS = ("timm", "hf", "torchvision")


def apart(peer, ours, size):
    """The largest difference over the largest answer in double precision; None if the peer cannot take this size."""
    images = images_of(size)
    with torch.no_grad():
        expected = ours.double()(images)
        try:
            found = hf_answer(peer.eval().double()(images))
        except RuntimeError:
            return None
    return float((found - expected).abs().max() / expected.abs().max())


def torchvisions(window=(4, 4)):
    return torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], list(window), num_classes=CLASSES)


def opened(folder, format):
    """What the library itself makes of files that were written for it."""
    if format == "timm":
        return timm.create_model(f"local-dir:{folder}", pretrained=True)
    if format == "hf":
        return transformers.AutoModelForImageClassification.from_pretrained(folder, attn_implementation="sdpa")
    peer, state = torchvisions(), load_file(folder / "model.safetensors")
    index = {name: tensor for name, tensor in peer.state_dict().items() if name.endswith("relative_position_index")}
    peer.load_state_dict(state | index)
    return peer


@pytest.mark.filterwarnings("ignore:.*non-contiguous", "ignore:.*non-tuple")  # of timm, where it resamples a table
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_the_same_model_or_a_note_says_where_not(format, size, tmp_path):
    model = redraw(SwinTransformer(img_size=size, window_size=4, **STAGES))
    _, notes = write(attach_record(model, ModelRecord(tuple("abcde"), model.preprocessing)), tmp_path / "out", format)
    odd = [note for note in notes if "differs from Vitral" in note or "to whole patches" in note]
    found = apart(opened(tmp_path / "out", format), model, size)
    assert (found is not None and found < 1e-9) != bool(odd), (found, notes)
    assert all("32 x 32 and 64 x 64" in note for note in odd if "something else" in note)


def timms(size, stages, **more):
    return timm.models.swin_transformer.SwinTransformer(
        **(dict(img_size=size, patch_size=4, window_size=4) | stages | more)
    )


def peer_of(library, size):
    """A library's own Swin for images of this size, as it saves it."""
    if library == "timm":
        return timms(size, STAGES)
    if library == "torchvision":
        return torchvisions()
    config = transformers.SwinConfig(image_size=size, patch_size=4, window_size=4, num_labels=CLASSES)
    config.update(dict(embed_dim=16, depths=[2, 2], num_heads=[2, 4]))
    return hf_model("SwinForImageClassification", config)


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (24, 24), (40, 40), (16, 16), (30, 32)], ids=str)
@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_what_is_read_is_the_same_model_or_it_is_said_where_not(library, size, tmp_path):
    """timm's tables are cut to the maps of its own image size, and read exactly there."""
    peer = redraw(peer_of(library, size))
    if library == "transformers":
        peer.save_pretrained(tmp_path)
        ours = load_published(tmp_path)
    else:
        ours = reread(peer, tmp_path / "swin.safetensors", trained_at=size)
    said = [line for line in ours.provenance["assumed"] if "differs from Vitral" in line or "to whole patches" in line]
    found = apart(peer, ours, size)
    assert (found is not None and found < 1e-9) != bool(said), (found, said)


THREE = dict(embed_dim=16, depths=(2, 2, 2), num_heads=(2, 4, 4), num_classes=CLASSES)


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (48, 48)], ids=str)
def test_timms_windows_that_were_cut_to_a_map(size, tmp_path):
    """Its last map is (3, 4), (4, 3) or (3, 3), and so is its window of 4 there."""
    peer = redraw(timms(size, THREE))
    ours = reread(peer, tmp_path / "swin.safetensors", trained_at=size)
    assert ours.config["window_size"] == 4 and PADDED_TABLES in ours.provenance["assumed"]
    assert apart(peer, ours, size) < 1e-9
    message = r"windows were reduced to the size of their feature maps\. Specify the size.*trained_at"
    with pytest.raises(StoreError, match=message):
        load_published(tmp_path / "swin.safetensors")


@pytest.mark.filterwarnings("ignore:.*non-contiguous", "ignore:.*non-tuple")
def test_timms_swin_at_another_size_has_other_tables(tmp_path):
    peer = redraw(timms(64, THREE))
    save_file(peer.state_dict(), tmp_path / "swin.safetensors")
    for size, same in ((128, True), (48, False)):
        ours = load_published(tmp_path / "swin.safetensors", trained_at=64, img_size=size)
        assert any("resamples the bias tables" in line for line in ours.provenance["assumed"]) != same
        peer.set_input_size(img_size=(size, size), window_size=4)
        assert (apart(peer, ours, (size, size)) < 1e-9) == same


@pytest.mark.parametrize("patch", [4, 2])
def test_a_bare_swins_image_size_is_said(patch, tmp_path):
    peer = redraw(timms(64, THREE, patch_size=patch))
    ours = reread(peer, tmp_path / "swin.safetensors")
    assert ours.config["img_size"] == (16 * patch, 16 * patch) == ours.preprocessing.size
    assert any(f"images of {ours.config['img_size']}, the smallest" in line for line in ours.provenance["assumed"])
    assumed = load_published(tmp_path / "swin.safetensors", trained_at=64).provenance["assumed"]
    assert not any("the smallest with whole windows" in line for line in assumed)


def test_torchvision_cuts_off_what_vitral_pads(tmp_path):
    """The last two pixels of 34: left out there, the beginning of a patch here."""
    peer = redraw(torchvisions())
    ours = reread(peer, tmp_path / "swin.pth", trained_at=34)
    assert any("torchvision crops" in line for line in ours.provenance["assumed"])
    images, one_more = images_of((34, 34)), (0, 2, 0, 2)
    with torch.no_grad():
        cut, whole = (model.double()(images) for model in (peer, ours))
        torch.testing.assert_close(cut, ours(images[..., :32, :32]))
        assert (cut - whole).abs().max() > 1e-3
        torch.testing.assert_close(whole, ours(torch.nn.functional.pad(images, one_more)))


@pytest.mark.parametrize("window", [(7, 14), (5, 13)], ids=["351 rows", "225 rows, as of windows of 8"])
def test_torchvisions_windows_with_two_different_sides(window, tmp_path):
    torch.save(torchvisions(window).state_dict(), tmp_path / "swin.pth")
    with pytest.raises(StoreError, match="does not belong to a square window: Vitral's Swin has square windows"):
        load_published(tmp_path / "swin.pth")


def test_timms_windows_with_two_different_sides(tmp_path):
    peer = timms(260, STAGES, window_size=(5, 13))
    save_file(peer.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"pretrained_cfg": {}, "model_args": {"window_size": [5, 13]}}')
    with pytest.raises(ConfigError, match=r"window_size=\[5, 13\]; Vitral's Swin has square windows"):
        load_published(tmp_path)
