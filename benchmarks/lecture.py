"""`docs/lecture.md`: what the lecture says, sentence by sentence, with what Vitral found and how to see it.

`python -m benchmarks.lecture` writes it from the records in `docs/studies/` and `benchmarks/results/`. Verdicts and
numbers are the records' own; the wording of each statement is ours.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STUDIES, RESULTS = ROOT / "docs" / "studies", ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "lecture.md"
RULES = {"beyond": "more than {:g}", "within": "between -{0:g} and {0:g}", "exactly": "zero to {:g}"}


@dataclass(frozen=True)
class Statement:
    """One thing that the lecture says or wants to teach.

    Either a `study` decides it, by the hypothesis of that number (the first is 0), or `verdict` says what is `proved`
    by a test or a count. `correction` is what is right instead, with its source.
    """

    says: str
    command: str
    study: str = ""
    hypothesis: int = 0
    verdict: str = ""
    proved: str = ""
    correction: str = ""


@dataclass(frozen=True)
class Part:
    title: str
    statements: tuple[Statement, ...]


def built(says: str, command: str, proved: str, correction: str = "") -> Statement:
    return Statement(says, command, verdict="built and tested", proved=proved, correction=correction)


def exact(says: str, command: str, proved: str, correction: str = "", verdict: str = "proved") -> Statement:
    return Statement(says, command, verdict=verdict, proved=proved, correction=correction)


OBJECTIVES = Part(
    "What it wants to teach",
    (
        built(
            "Patch embedding: an image is a sequence of patches.",
            "vitral lab start patchify",
            "`nn/patch.py`; equal to cutting patches and one matrix product (`tests/laws`).",
        ),
        built(
            "Positions, learned, one row for each place in the sequence.",
            "vitral lab start tokens",
            "`nn/position.py`; whether they find the grid is asked [below](#what-is-said-beside-it).",
        ),
        built(
            "A whole encoder block: attention of several heads, feed-forward network, LayerNorm.",
            "vitral lab start block",
            "`nn/attention.py`, `nn/mlp.py`, `nn/block.py`; equal to PyTorch's own encoder layer with the same weights "
            "(`tests/parity/test_torch_encoder.py`).",
        ),
        built("Train a ViT on images that a program draws.", "vitral train", "{demo}"),
        built(
            "See which patches the class token attends to.",
            "vitral explain RUN IMAGE",
            "`vitral.watch`: the weights that are shown, times the values, are what the model computed, to rounding; "
            "else nothing is shown. What such maps are worth is study 10: {attention_maps}.",
        ),
        built(
            "What ViTs and CNNs take for granted.",
            "vitral study run equivariance locality data_hunger",
            "Three studies, [below](#questions-and-answers).",
        ),
    ),
)
DIAGRAM = Part(
    "Its diagram and its code",
    (
        exact(
            "An image is split into N patches, and each is mapped to D numbers.",
            "vitral lab start patchify",
            "N is rows times columns of patches; no number is lost (`tests/laws`).",
        ),
        exact(
            "A convolution whose kernel and stride are the patch's side cuts patches that do not overlap.",
            "vitral lab start embedding",
            "It is the same linear map of each patch, forward and backward (`tests/laws`).",
        ),
        exact(
            "Its shapes: (B, C, H, W) to (B, D, H/P, W/P) to (B, D, N) to (B, N, D).",
            "vitral lab check embedding",
            "The lab's second station checks them, row by row.",
        ),
        exact(
            "A class token is put first, and positions are added to the patches.",
            "vitral lab start tokens",
            "Published models, and ours, give the class token a position as well.",
            "Both can express the same: only the sum of the class token and its position enters the model "
            "([glossary](glossary.md)).",
            "holds, with a difference",
        ),
        exact(
            "A block adds attention of the normed tokens, then the feed-forward network of the normed tokens.",
            "vitral lab start block",
            "Equations 2 and 3 of Dosovitskiy et al. 2021 (`nn/block.py`).",
        ),
        exact(
            "The class token goes through an MLP head.",
            "vitral lab start vit",
            "The paper has one hidden layer when it pre-trains and a single linear layer when it fine-tunes (§3.1).",
            "Published checkpoints have the single layer, after a last LayerNorm that the diagram leaves out "
            "([glossary](glossary.md)).",
            "holds for pre-training",
        ),
    ),
)
QUESTIONS = Part(
    "Questions and answers",
    (
        Statement(
            "CNNs have locality built in: their filters look at neighbourhoods.",
            "vitral study run locality",
            "locality",
        ),
        Statement(
            "CNNs are equivariant to translation: the same filter everywhere.",
            "vitral study run equivariance",
            "equivariance",
        ),
        Statement(
            "ViTs have neither of the two.",
            "vitral study run locality",
            "locality",
            2,
            correction="Patches are a neighbourhood, and one linear map for all of them, and one MLP, are shared over "
            "places: a ViT without positions is equivariant to whole patches, exactly "
            "(`tests/laws/test_study_equivariance.py`).",
        ),
        Statement(
            "Attention is global from the start: every patch can attend to every other.",
            "vitral study run global_attention",
            "global_attention",
        ),
        Statement("ViTs need much more data.", "vitral study run data_hunger", "data_hunger"),
        Statement(
            "ViTs can model long-range dependencies that CNNs struggle with.",
            "vitral study run long_range",
            "long_range",
        ),
        exact(
            "The class token is a token of learned numbers at the head of the sequence, as in BERT.",
            "vitral lab start tokens",
            "Dosovitskiy et al. 2021, §3.1, which names BERT's as its model.",
            verdict="holds, published",
        ),
        Statement(
            "Over the layers it gathers what all patches say.", "vitral study run cls_aggregates", "cls_aggregates"
        ),
        Statement("The mean of the patches works, too.", "vitral study run pooling", "pooling"),
        exact(
            "DeiT averages over its patches.",
            "vitral models deit_tiny_patch16_224",
            "DeiT reads its class token.",
            "Touvron et al. 2021, arXiv 2012.12877, §3; what its distilled model averages are the answers of two "
            "tokens (§4). Swin (arXiv 2103.14030) is among those that average over patches.",
            "wrong",
        ),
        Statement("The mean is sometimes better than the class token.", "vitral study run pooling", "pooling", 1),
        Statement("Attention costs O(N² D).", "vitral study run attention_cost", "attention_cost"),
        exact(
            "An image of 224 pixels in patches of 16 is 196 patches, which is manageable.",
            "vitral models vit_base_patch16_224",
            "14 x 14 = 196, and CLS. Attention's own products are 4 % of a ViT-B's multiply-adds there "
            "(`tests/laws/test_study_attention_cost.py`).",
        ),
        exact(
            "One of 1,024 pixels is 4,096 patches; a head's matrix has 64 million entries.",
            "vitral models vit_base_patch16_224 --img-size 1024",
            "4,096 patches is right.",
            "4,096 x 4,096 = 16.8 million entries; 64 is what they take in MiB, in float32 "
            "(`tests/laws/test_study_attention_cost.py`). And a fused kernel never forms the matrix.",
            "wrong by four",
        ),
        Statement(
            "That is why large images are given to models with windows, such as Swin: their cost grows with N.",
            "vitral study run attention_cost",
            "attention_cost",
            7,
        ),
    ),
)
BESIDE = Part(
    "What is said beside it",
    (
        Statement("Learned 1-D positions discover the image's grid.", "vitral study run positions", "positions"),
        Statement("Attention maps show what the model looked at.", "vitral study run attention_maps", "attention_maps"),
        Statement("CNNs go by texture, ViTs by shape.", "vitral study run shape_or_texture", "shape_or_texture"),
        Statement("With the right remedies a ViT learns from few images.", "vitral study run remedies", "remedies"),
    ),
)
PARTS = (OBJECTIVES, DIAGRAM, QUESTIONS, BESIDE)


def record(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((STUDIES / f"{name}.json").read_text())
    return found


def decided(statement: Statement) -> tuple[str, str]:
    """The verdict of a study, and its numbers in words."""
    found = record(statement.study)
    one = found["hypotheses"][statement.hypothesis]
    verdict = found["verdict"] if statement.hypothesis == 0 else f"{one['verdict']}, of this:"
    low, high = one["interval"]
    rule = RULES[one["rule"]["kind"]].format(one["rule"]["border"])
    numbers = (
        f"{one['sentence']} Found: {one['mean']:.3g} ({low:.3g} to {high:.3g}, {len(one['effects'])} seeds), by a rule "
        f"that was set before: {rule}. [The study](studies/{statement.study}.html)"
    )
    said = f"{found['sentence']} " if statement.hypothesis == 0 else ""
    return verdict, said + numbers


def demo() -> str:
    """What `vitral train` reached."""
    runs = json.loads((RESULTS / "demo.json").read_text())["runs"]
    shares = ", ".join(f"{run['test_accuracy']:.1%}" for run in runs)
    return f"`vitral train` with no options: {shares} of test images right (seeds 0 to {len(runs) - 1})."


def row(statement: Statement) -> str:
    verdict, found = decided(statement) if statement.study else (statement.verdict, statement.proved)
    if "{demo}" in found:
        found = demo()
    found = found.replace("{attention_maps}", f"*{record('attention_maps')['verdict']}*")
    correction = f" **Right is:** {statement.correction}" if statement.correction else ""
    named = f"**{verdict[0].upper()}{verdict[1:].removesuffix(':')}:**"
    return f"* *{statement.says}*  \n  {named} {found}{correction} `{statement.command}`"


def page() -> str:
    lines = [
        "# The lecture, sentence by sentence",
        "",
        'What "Vision Transformer from scratch" says and wants to teach, in our words, and what became of it here. '
        "Verdicts and numbers are those of the records in [studies](studies/index.html), measured on small models and "
        "drawn images: they say nothing about larger models or photographs. Written by `python -m benchmarks.lecture`.",
    ]
    for part in PARTS:
        lines += ["", f"## {part.title}", "", *(row(statement) for statement in part.statements)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
