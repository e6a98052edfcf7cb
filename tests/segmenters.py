"""Small segmentation models for the tests: convolutional, of windows, attending globally, of one size only.

Every parameter is drawn anew (see `tiny.redraw`), so that each matters.
"""

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from tiny import redraw
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.large.tiles import mirrored
from vitral.data.preprocess import normalise
from vitral.nn.attention import Attention
from vitral.nn.family.stage import Stage

# A file of the reader's own.
SEGMENTER = '''
import os, time

import torch
from torch import nn


class Segmenter(nn.Module):
    """Three classes by a 3 x 3 convolution; each tile takes a moment, so that a test can stop it."""

    task = "segmentation"
    class_names = ("low", "middle", "high")
    img_size = 32

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        return self.head(images)
'''

CLASSES = ("ground", "water", "road", "tree")


class Convolutional(nn.Module):
    """Two strides of 2 and a skip at half the size: its grid repeats every 4 pixels, and it sees about 12."""

    def __init__(self, width=8):
        super().__init__()
        self.fine = nn.Conv2d(3, width, 3, 2, 1)
        self.coarse = nn.Conv2d(width, width, 3, 2, 1)
        self.head = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, images):
        fine = F.relu(self.fine(images))
        coarse = F.interpolate(F.relu(self.coarse(fine)), scale_factor=2)
        return F.interpolate(self.head(fine + coarse), scale_factor=2)


class Windowed(nn.Module):
    """Two blocks of shifted windows of 4 patches of 2 pixels: its grid repeats every 8 pixels."""

    def __init__(self, width=8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 2, 2)
        self.stage = Stage(width, 2, 2, 4, 2.0, merge=False)
        self.head = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, images):
        x = rearrange(self.patches(images), "b d y x -> b y x d")
        return F.interpolate(self.head(rearrange(self.stage(x), "b y x d -> b d y x")), scale_factor=2)


class Global(nn.Module):
    """Attention over all patches of 4 pixels: every pixel depends on the whole tile."""

    def __init__(self, width=8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.attention = Attention(width, 2)
        self.head = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, images):
        x = self.patches(images)
        tokens = rearrange(x, "b d y x -> b (y x) d")
        tokens = self.embed(tokens)
        tokens = tokens + self.attend(tokens)
        return F.interpolate(self.head(rearrange(tokens, "b (y x) d -> b d y x", y=x.shape[2])), scale_factor=4)

    def embed(self, tokens):
        return tokens

    def attend(self, tokens):
        return self.attention(tokens)


class OfOneSize(Global):
    """The same with a table of positions, so that it takes images of its own size only: 32 x 48."""

    def __init__(self, width=8):
        super().__init__(width)
        self.positions = nn.Parameter(torch.zeros(1, 8 * 12, width))

    def embed(self, tokens):
        return tokens + self.positions


def segmenter(kind=Convolutional, size=(32, 32), **record):
    """A model with its record, in eval mode; its logits vary enough for every class to win somewhere."""
    torch.manual_seed(0)
    model = redraw(kind(), deviation=0.5)
    seen = Preprocessing(size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    return attach_record(model, ModelRecord(CLASSES, seen, task="segmentation", **record))


def photograph(height, width, seed=0):
    """Noise over smooth blobs, uint8 RGB."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.uniform(0, 255, (1, 3, height // 16 + 2, width // 16 + 2)))
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0].numpy()
    return (smooth + generator.normal(0, 25, smooth.shape)).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


@torch.no_grad()
def whole_logits(model, pixels, height, width):
    """The logits (K, y, x) of the whole image, mirrored to the padded size as tiles are, cut to its own."""
    padded = pixels[mirrored(0, height, pixels.shape[0])][:, mirrored(0, width, pixels.shape[1])]
    logits = model(normalise(torch.from_numpy(np.ascontiguousarray(padded))[None], model.preprocessing))[0]
    return logits[:, : pixels.shape[0], : pixels.shape[1]]


def disagreements(logits, classes, margin=1e-4):
    """How many pixels have another class than the logits' best, where that is best by more than rounding."""
    best = logits.topk(2, 0).values
    return int(((logits.argmax(0).numpy() != classes) & ((best[0] - best[1]).numpy() > margin)).sum())
