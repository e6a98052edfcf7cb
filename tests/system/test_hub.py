"""Checkpoints on a hub: a server on this machine that answers as the real one does, asked by the real client."""

import hashlib
import http.server
import json
import re
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from shell import paint
from tiny import tiny_vit
from vitral.base.errors import ConfigError, StoreError, UnknownName
from vitral.base.record import ModelRecord, attach_record
from vitral.weights.convert import write
from vitral.weights.load import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = list("abcde")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint as transformers saves it."""
    made = tmp_path_factory.mktemp("hub") / "model"
    model = tiny_vit(img_size=16, patch_size=4)
    write(attach_record(model, ModelRecord(tuple(NAMES), model.preprocessing)), made, "hf")
    return made


@pytest.fixture
def hub(folder, monkeypatch, tmp_path):
    """A server whose repository `owner/vit` has the checkpoint at `main`; `owner/gated` wants a licence accepted."""
    files = {"owner/vit": folder, "owner/pickled": tmp_path / "pickled", "owner/empty": tmp_path / "empty"}
    for name in ("pickled", "empty"):
        (tmp_path / name).mkdir()
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if listing := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/revision/(\w+)", self.path):
                return self.listed(*listing.groups())
            if tree := re.match(r"/api/models/([\w-]+/[\w-]+)/tree/", self.path):
                files_there = [(path.name, path.stat().st_size) for path in files[tree[1]].iterdir()]
                listed = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in files_there]
                return self.sent(json.dumps(listed).encode())
            found = re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/\w+/([\w.-]+)", self.path)
            if found and (path := files.get(found[1], tmp_path) / found[2]).is_file():
                return self.sent(path.read_bytes())
            return self.refused(404, "EntryNotFound")

        do_HEAD = do_GET

        def listed(self, repository, revision):
            if repository == "owner/gated":
                return self.refused(403, "GatedRepo")
            if repository not in files:
                return self.refused(404, "RepoNotFound")
            if revision not in ("main", COMMIT):
                return self.refused(404, "RevisionNotFound")
            siblings = [{"rfilename": path.name} for path in files[repository].iterdir()]
            return self.sent(json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())

        def sent(self, content):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def refused(self, code, reason):
            self.send_response(code)
            self.send_header("X-Error-Code", reason)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    constants = pytest.importorskip("huggingface_hub.constants")
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    server.asked, server.home = asked, files
    yield server
    server.shutdown()
    server.server_close()


def test_a_checkpoint_is_fetched_once_and_found_again_without_the_server(hub):
    model = load("hf:owner/vit")
    assert model.classes == tuple(NAMES) and model.provenance["file"] == "hf:owner/vit"
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = tiny_vit(img_size=16, patch_size=4)(image)
    torch.testing.assert_close(model(image), expected)
    asked = sum("/resolve/" in path and path.endswith("model.safetensors") for path in hub.asked)
    hub.shutdown()
    hub.server_close()
    torch.testing.assert_close(load("hf:owner/vit")(image), expected)
    assert sum("/resolve/" in path and path.endswith("model.safetensors") for path in hub.asked) == asked
    torch.testing.assert_close(load(f"hf:owner/vit@{COMMIT}")(image), expected)


def test_a_file_that_only_pytorch_reads_is_taken_where_there_is_no_other(hub, folder):
    home = hub.home["owner/pickled"]
    (home / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(load_file(folder / "model.safetensors"), home / "pytorch_model.bin")
    assert load("hf:owner/pickled").classes == tuple(NAMES)


def test_shards_are_followed_into_the_cache(hub, folder):
    home, tensors = hub.home["owner/pickled"], load_file(folder / "model.safetensors")
    (home / "config.json").write_bytes((folder / "config.json").read_bytes())
    names, index = sorted(tensors), {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, home / file)
        index |= dict.fromkeys(part, file)
    (home / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    image = torch.zeros(1, 3, 16, 16)
    torch.testing.assert_close(load("hf:owner/pickled")(image), tiny_vit(img_size=16, patch_size=4)(image))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("hf:owner/nothing", UnknownName, "The hub has no owner/nothing"),
        ("hf:owner/vit@v9", UnknownName, "owner/vit has no revision 'v9'"),
        ("hf:owner/gated", StoreError, "owner/gated requires that you accept its licence"),
        ("hf:owner/empty", StoreError, "owner/empty does not contain a checkpoint: looked for model.safetensors"),
        ("hf:owner", ConfigError, "hf:owner is not a name on the hub. Examples: hf:google/"),
        ("hf:owner/vit,num_heads=5", ConfigError, "num_heads=5 was requested, but the checkpoint has num_heads=4"),
    ],
)
def test_what_cannot_be_fetched_is_said(hub, name, kind, message):
    with pytest.raises(kind, match=message):
        load(name)


def test_without_a_server_and_a_cache_it_says_so(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(StoreError, match="not in the local cache, and the hub could not be reached"):
        load("hf:owner/vit")


def test_the_command_line_judges_one_of_the_hub(hub, vitral, tmp_path):
    paint(tmp_path / "photos", {name: 40 * index for index, name in enumerate(NAMES)})
    answer = vitral("eval", "hf:owner/vit", "--data", "photos", "--json").done()
    assert "read as hugging_face" in answer.messages and len(answer.json["confusion"]) == len(NAMES)
