"""The benchmark that turns Debian's Fashion-MNIST into a folder of class folders, on files of the same format."""

import gzip
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    from benchmarks import fashion_mnist

    return fashion_mnist


def write_idx(path, values, kind=8):
    shape = b"".join(side.to_bytes(4, "big") for side in values.shape)
    path.write_bytes(gzip.compress(bytes([0, 0, kind, values.ndim]) + shape + values.tobytes()))


@pytest.fixture
def package(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "package"
    folder.mkdir()
    for part, count in (("train", 60), ("t10k", 20)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


@pytest.mark.parametrize("shape", [(5,), (3, 28, 28), (2, 3), (1, 1, 1, 4)])
def test_an_idx_file_is_read_as_it_was_written(benchmark, tmp_path, shape):
    values = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    write_idx(tmp_path / "a.gz", values)
    assert (benchmark.read_idx(tmp_path / "a.gz") == values).all()


def test_an_idx_file_of_another_type_is_refused(benchmark, tmp_path):
    write_idx(tmp_path / "a.gz", np.zeros(3, np.float32), kind=13)
    with pytest.raises(ValueError, match="not an IDX file of unsigned bytes: it starts with 00000d01"):
        benchmark.read_idx(tmp_path / "a.gz")


def test_the_sample_is_seeded_and_each_image_is_in_its_class(benchmark, package, tmp_path):
    pixels = np.concatenate(
        [benchmark.read_idx(package / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    )
    folders = [tmp_path / name for name in ("one", "same", "other")]
    for folder, seed in zip(folders, (0, 0, 1)):
        assert benchmark.write_class_folder(package, folder, 40, seed) == 40
    one, same, other = ({path.relative_to(folder) for path in folder.rglob("*.png")} for folder in folders)
    assert one == same != other and len(one) == 40
    assert len(Counter(path.parent.name for path in one)) == 10
    for path in one:
        index = int(path.stem)
        label = (index if index < 60 else index - 60) % 10
        assert path.parent.name == benchmark.CLASSES[label]
        assert (np.asarray(Image.open(folders[0] / path)) == pixels[index]).all()


def test_without_the_package_nothing_runs_and_a_sentence_says_so(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "SOURCE", tmp_path / "none")
    assert benchmark.run("smoke") is None
    assert "apt-get install dataset-fashion-mnist. Nothing was run." in capsys.readouterr().out
