"""The effect of each option of `vitral explore`."""

import json
import re
import socket
from importlib.resources import files

import numpy as np
from effects import effect
from PIL import Image

from shell import tree
from vitral.data.spec import find_data


def header(page):
    """What the page holds, besides its rows."""
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="payload">(.*?)</script>', text, re.DOTALL)[1])


@effect("explore", "model")
@effect("explore", "images")
@effect("explore", "json")
def one_page_has_every_image_layer_and_head(vitral, trained, photos, tmp_path):
    words = ("explore", trained.folder, photos / "dark" / "0.png", photos / "light" / "1.png")
    found = vitral(*words, "--json").done().json
    assert tree(tmp_path / "explored") == ["2-images.html"] and found["page"] == "explored/2-images.html"
    told = header(tmp_path / found["page"])
    assert [image["name"] for image in told["images"]] == ["0.png", "1.png"] and told["model"] == str(trained.folder)
    assert found["layers"] == [layer["name"] for layer in told["images"][1]["layers"]]
    classes = trained.card["classes"]
    assert set(told["images"][0]["answers"]["names"]) <= set(classes)
    assert found["residual"] < 1e-4 and found["error"] <= 1 / 250 and found["left_out"] == ""
    assert found["weights"] > 10_000 and told["models"][0]["network"]["id"] == "weights-0"
    plain = vitral(*words).done()
    assert f"The page holds the model: its {found['weights']:,} weights" in plain.printed
    assert "4 layers of attention, verified to" in plain.printed and "page: explored/2-images-2.html" in plain.printed


@effect("explore", "out")
def out_is_the_file_or_its_folder(vitral, trained, photos, tmp_path):
    words = ("explore", trained.folder, photos / "dark" / "0.png", "--out")
    vitral(*words, "deep/mine.html").done()
    (tmp_path / "here").mkdir()
    vitral(*words, "here").done()
    assert (tmp_path / "deep" / "mine.html").is_file() and (tmp_path / "here" / "0.html").is_file()
    vitral(*words, "page.txt").refused(2, "must end in .html")


@effect("explore", "beside")
def beside_shows_the_same_image_in_a_second_model(vitral, trained, photos, tmp_path):
    words = ("explore", trained.folder, photos / "dark" / "0.png", photos / "light" / "1.png", "--beside")
    found = vitral(*words, "untrained", "--json").done().json
    told = header(tmp_path / found["page"])
    name = trained.folder.name
    assert [(image["photo"], image["model"]) for image in told["images"]] == [
        (0, name), (1, name), (0, "untrained"), (1, "untrained"),
    ]  # fmt: skip
    assert found["beside"]["layers"] == found["layers"]
    first, _, second, _ = told["images"]
    assert first["answer"] != second["answer"] and first["answers"]["values"] != second["answers"]["values"]
    assert "4 layers of attention beside 4 of untrained" in vitral(*words, "untrained").done().printed
    vitral(*words, "runs/none").refused(2, "runs/none")


@effect("explore", "method")
@effect("explore", "orders")
def method_names_the_relevance_maps_and_orders_tests_them(vitral, tmp_path):
    """With the model that ships with the library, since the answer of a model that learned nothing cannot fall."""
    Image.fromarray(find_data("shapes:n=8,size=48").test.pixels[0]).save(tmp_path / "shape.png")
    words = ("explore", files("vitral.lab") / "model", tmp_path / "shape.png", "--json", "--method")

    def methods(*options):
        (image,) = header(tmp_path / vitral(*words, *options).done().json["page"])["images"]
        return {one["name"]: one["tested"] for one in image["methods"]}

    found = methods("occlusion", "chefer", "--orders", 40)
    assert list(found) == ["occlusion", "chefer"] and all("with 40 random orders" in text for text in found.values())
    assert "Not tested on this page" in methods("chefer", "--orders", 0)["chefer"] and methods("none") == {}
    vitral(*words, "chefr").refused(2, "chefr", "chefer")


@effect("explore", "limit_mb")
def limit_mb_leaves_out_rows_and_says_which(vitral, photos, tmp_path):
    """A model with 24 x 24 patches, whose rows are most of its page."""
    (tmp_path / "fine.py").write_text(FINE)
    image = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(image)
    words = ("explore", "fine.py:Fine", image, "--json")
    whole = vitral(*words).done().json
    some = vitral(*words, "--limit-mb", round(whole["size"] / 2e6, 2)).done().json
    assert some["size"] < whole["size"] / 2 and whole["left_out"] == ""
    assert "every 2nd patch" in some["left_out"] and "This saves about" in some["left_out"]
    told = header(tmp_path / some["page"])
    assert told["kept"] == some["left_out"] and len(told["querySets"][0]) == 1 + 12 * 12
    vitral(*words, "--limit-mb", 0.1).refused(2, "needs at least", "Raise --limit-mb")


FINE = """
from vitral.nn.vit import VisionTransformer


def Fine():
    model = VisionTransformer(img_size=96, patch_size=4, num_classes=2, embed_dim=16, depth=2, num_heads=2)
    model.class_names, model.img_size = ("a", "b"), 96
    return model
"""


@effect("explore", "on_bad_image")
def on_bad_image_stops_or_skips_a_picture_of_the_page(vitral, trained, photos):
    (photos / "dark" / "0.png").write_bytes(b"damaged")
    words = ("explore", trained.folder, photos / "dark" / "0.png", photos / "dark" / "1.png", "--out", "page.html")
    vitral(*words).refused(1, "dark/0.png")
    answer = vitral(*words, "--on-bad-image", "skip").done()
    assert "1 of 2 images could not be read and were left out" in answer.messages


@effect("explore", "code")
def code_is_where_the_explored_model_is_now(vitral, photos, own, tmp_path):
    words = ("train", "--data", "photos", "--model", "own.py:Mine", "--img-size", 16, "--epochs", 1, "--out", "run")
    vitral(*words).done()
    own.rename(tmp_path / "moved.py")
    vitral("explore", "run", photos / "dark" / "0.png").refused(1, "is missing or has changed since")
    vitral("explore", "run", photos / "dark" / "0.png", "--code", "moved.py:Mine").done()


def stop_at_once(monkeypatch):
    """`vitral explore --live` as if Ctrl-C came with the first request; the servers that were opened."""
    opened = []

    def serve(self, poll_interval=0.5):
        opened.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr("vitral.explorer.live.server.LocalPage.serve_forever", serve)
    return opened


@effect("explore", "live")
@effect("explore", "host")
@effect("explore", "port")
def live_opens_a_page_at_an_address_and_writes_no_file(vitral, trained, photos, tmp_path, monkeypatch):
    opened = stop_at_once(monkeypatch)
    words = ("explore", trained.folder, photos / "dark" / "0.png")
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    answer = vitral(*words, "--live", "--host", "127.0.0.2", "--port", port, "--json").done()
    (page,) = opened
    assert answer.json == {"address": f"http://127.0.0.2:{port}/"} and not (tmp_path / "explored").exists()
    told = page.source.payload.header
    assert told["live"] and [image["name"] for image in told["images"]] == ["0.png"]
    assert all(layer["parts"] == [] for layer in told["images"][0]["layers"])
    plain = vitral(*words, "--live", "--port", 0).done()
    assert "explorer: http://127.0.0.1:" in plain.printed and "Ctrl-C ends it" in plain.printed
    for given in (("--host", "127.0.0.2"), ("--port", port), ("--allow-remote",)):
        vitral(*words, *given).refused(2, f"{given[0]} is for a page with --live")
    for given in (("--out", "page.html"), ("--limit-mb", 3)):
        vitral(*words, "--live", *given).refused(2, f"{given[0]} is for a page in a file")


@effect("explore", "allow_remote")
def allow_remote_opens_the_page_to_other_machines_and_warns(vitral, trained, photos, monkeypatch):
    opened = stop_at_once(monkeypatch)
    words = ("explore", trained.folder, photos / "dark" / "0.png", "--live", "--port", 0, "--host", "0.0.0.0")
    vitral(*words).refused(2, "lets other machines open the page", "add --allow-remote")
    answer = vitral(*words, "--allow-remote").done()
    assert opened[0].is_remote and "can open this page and see its images. It has no password" in answer.messages
