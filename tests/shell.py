"""The command line as a person types it: a process in a folder of its own that cannot reach a network."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

# Every warning is an error, but the one that pyproject.toml lets pass too: see there.
WARNINGS = "error,ignore:Guards may run slower on Python 3.13.0:RuntimeWarning"

NO_NETWORK = """
import socket

def refuse(*args, **kwargs):
    raise AssertionError("The command line tried to use the network.")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""

OWN = '''
import torch
from torch import nn


class Attention(nn.Module):
    """Softmax attention, written out by hand."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, n, d))


class Mine(nn.Module):
    def __init__(self, num_classes, img_size=16, dim=16, depth=2):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(Attention(dim, 2) for _ in range(depth))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x[:, 0])
'''

QUICK = '''
import torch
import torch.nn.functional as F
from torch import nn


class Quick(nn.Module):
    """Small and without attention, so that a whole run takes a second."""

    def __init__(self, num_classes):
        super().__init__()
        self.first, self.inner, self.head = nn.Linear(48, 16), nn.Linear(16, 16), nn.Linear(16, num_classes)

    def forward(self, images):
        x = F.relu(self.first(F.adaptive_avg_pool2d(images, 4).flatten(1)))
        return self.head(F.relu(self.inner(x)))


class Traced(Quick):
    """Answers differently where it was compiled."""

    def forward(self, images):
        return super().forward(-images if torch.compiler.is_compiling() else images)
'''


SLEEPING = '''
import time

import torch
from torch import nn


class Slow(nn.Module):
    """Slow enough to be killed between two batches."""

    class_names, img_size = ("dark", "light"), 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(192, 2)

    def forward(self, images):
        time.sleep(0.2)
        return self.head(images.flatten(1))
'''


# Options of a training run on a folder `photos` that takes a second; add the epochs.
TINY = ("--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--batch-size", 8)


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The last line on standard output, as a machine reads it."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def printed(self):
        """The results in words on standard output, on one line."""
        return " ".join(self.out.split())

    def done(self):
        assert self.code == 0, self.err + self.out
        return self

    def failed(self, code, *words):
        """A message on standard error, maybe after progress and advice: no traceback."""
        assert self.code == code, f"{' '.join(self.words)} ended with {self.code}\n{self.err}{self.out}"
        assert "Traceback" not in self.err, self.err
        for word in words:
            assert word in self.messages, self.err
        return self

    def refused(self, code, *words):
        """One clear message on standard error, and nothing else."""
        assert self.out == "" and "Warning" not in self.err, self.err
        return self.failed(code, *words)

    def reported(self, code, *words):
        """Results on standard output that end with another exit code than 0: no traceback."""
        self.failed(code)
        assert "Warning" not in self.err, self.err
        for word in words:
            assert word in self.printed, self.out
        return self

    @property
    def messages(self):
        """What stands on standard error, on one line, without the frames around it."""
        return " ".join(self.err.replace("│", " ").split())


def text(words):
    return tuple(map(str, words))


def interruptible():
    """As from a terminal, whatever started the tests: a shell's background job is deaf to Ctrl-C, as are its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """Commands as processes of their own."""

    def __init__(self, environment, folder):
        self.environment, self.folder = environment, folder

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, "-m", "vitral", *text(words)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interruptible,
        )

    def __call__(self, *words):
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        return Answer(text(words), process.returncode, out, err)

    def stopped(self, *words, when, by):
        """Run a command, send it a signal as soon as `when()` holds, and wait for its end."""
        process = self.start(*words)
        try:
            while not when() and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(by)
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        return Answer(text(words), process.returncode, out, err)


@dataclass(frozen=True)
class Trained:
    """A run folder."""

    folder: Path
    answer: Answer | None = None

    @property
    def weights(self):
        return load_file(self.folder / "model.safetensors")

    @property
    def card(self):
        return json.loads((self.folder / "model.json").read_text())

    @property
    def metrics(self):
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    @property
    def steps(self):
        return self.metrics[-1]["step"]

    @property
    def last_checkpoint(self):
        """The newest checkpoint; a killed process may leave an older one, or the beginning of one, beside it."""
        return max((self.folder / "checkpoints").glob("step-*"))

    @property
    def last_weights(self):
        """Those of the newest checkpoint: of the last step, and no average."""
        return load_file(self.last_checkpoint / "weights.safetensors")

    @property
    def contents(self):
        """Every file's bytes."""
        return {name: (self.folder / name).read_bytes() for name in tree(self.folder)}

    def copy(self, place):
        shutil.copytree(self.folder, place)
        return Trained(place)


def paint(home, shades, count=12, size=(12, 16), seed=0):
    """A class folder for each grey, with noisy pictures of about that grey, others by another seed."""
    rng = np.random.default_rng(seed)
    for name, shade in shades.items():
        (home / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.normal(shade, 40, (*size, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(home / name / f"{number}.png")
    return home


@contextlib.contextmanager
def small_disk(place, size, read_only=False):
    """A file system of its own, of so many bytes."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)  # a traceback may hold a file open


def flip_a_bit(path):
    """Damage a file in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tree(folder):
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
