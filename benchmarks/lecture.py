"""`docs/lecture.md`: what the lecture says, sentence by sentence, with what Vitral found and how to see it.

`python -m benchmarks.lecture` writes it from the records in `docs/studies/` and `benchmarks/results/`. Verdicts and
numbers are the records' own; the wording of each statement is ours.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STUDIES, RESULTS = ROOT / "docs" / "studies", ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "lecture.md"
RULES = {"beyond": "more than {0:g}", "within": "between -{0:g} and {0:g}", "exactly": "zero to within {0:g}"}
SHARES = {"accuracy", "val_accuracy", "early", "late", "last", "near", "far", "shape_bias"}  # of answers


@dataclass(frozen=True)
class Statement:
    """One thing that the lecture says or wants to teach.

    Either `verdict` says how it stands and `found` why, or a `study` decides it, by the hypothesis of that number (the
    first is 0). `also` are further hypotheses of the study. `proved` is said first, by a test or a count; `correction`
    is what is right instead, with its source; `not_shown` is what is left open.
    """

    says: str
    command: str
    study: str = ""
    hypothesis: int = 0
    also: tuple[int, ...] = ()
    verdict: str = ""
    found: str = ""
    proved: str = ""
    correction: str = ""
    not_shown: str = ""


@dataclass(frozen=True)
class Part:
    """A heading, below it an `answer` if it asks something, and statements; of level 3 it belongs to the one before."""

    title: str
    statements: tuple[Statement, ...] = ()
    answer: str = ""
    level: int = 2


def built(says: str, command: str, found: str) -> Statement:
    return Statement(says, command, verdict="built and tested", found=found)


def exact(says: str, command: str, found: str, correction: str = "", verdict: str = "proved") -> Statement:
    return Statement(says, command, verdict=verdict, found=found, correction=correction)


def asked(says: str, study: str, hypothesis: int = 0, **more: Any) -> Statement:
    return Statement(says, f"vitral study run {study}", study, hypothesis, **more)


PATCHES, POSITIONS, BLOCKS = (f"pytest tests/laws/test_{name}.py" for name in ("patches", "positions", "blocks"))

OBJECTIVES = Part(
    "What it wants to teach",
    (
        built(
            "Patch embedding: an image is cut into patches, which stand in a row.",
            PATCHES,
            "`nn/patch.py`; equal to cutting patches and one matrix product (`tests/laws/test_patches.py`).",
        ),
        built(
            "Positions, learned, one row for each place in the sequence.",
            POSITIONS,
            "`nn/position.py` (`tests/laws/test_positions.py`); whether they find the grid is asked "
            "[below](#what-is-said-beside-it).",
        ),
        built(
            "A whole encoder block: attention of several heads, feed-forward network, LayerNorm.",
            "pytest tests/parity/test_torch_encoder.py",
            "`nn/attention.py`, `nn/mlp.py`, `nn/block.py`; equal to PyTorch's own encoder layer with the same weights "
            "(`tests/parity/test_torch_encoder.py`).",
        ),
        built("Train a ViT on images that a program draws.", "vitral train", "{demo}"),
        built(
            "See which patches the class token attends to.",
            "vitral explain runs/shapes-1 photo.jpg",
            "`vitral.watch`: the weights that are shown, times the values, are what the model computed, to rounding; "
            "else nothing is shown. What such maps are worth is asked by a [study](studies/attention_maps.html): "
            "{attention_maps}.",
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
            PATCHES,
            "N is rows times columns of patches, and each patch reaches its own token and no other "
            "(`tests/laws/test_patches.py`). Cutting loses no number; the map to D may: in the demo 192 become 64.",
        ),
        exact(
            "A convolution whose kernel and stride are the patch's side cuts patches that do not overlap.",
            PATCHES,
            "It is the same linear map of each patch (`tests/laws/test_patches.py`).",
        ),
        exact(
            "Its shapes in code: (B, C, H, W) to (B, D, H/P, W/P) to (B, D, N) to (B, N, D).",
            PATCHES,
            "`tests/laws/test_patches.py`, and row by row in the lab's second station.",
        ),
        exact(
            "The code's defaults: images of 224 pixels, patches of 16, 3 channels, D = 768.",
            PATCHES,
            "Those of `PatchEmbedding`, too: 196 tokens of 768 numbers "
            "(`test_the_lectures_image_becomes_196_tokens_of_768_numbers` in `tests/laws/test_patches.py`).",
        ),
        exact(
            "The code counts its patches and takes a size that it is given.",
            "pytest tests/unit/test_nn_errors.py",
            "It never uses the count, takes every image to be square, and lets sizes through that patches do not tile: "
            "there the convolution drops the rest in silence.",
            "A size that patches do not tile is refused; ours raises `ConfigError` and names the nearest that works "
            "(`test_patches_that_do_not_tile_the_image_name_the_nearest_size_that_works` in "
            "`tests/unit/test_nn_errors.py`).",
            "incomplete",
        ),
        exact(
            "A class token is put first, and positions are added to the patches.",
            POSITIONS,
            "The paper (equation 1), most published models and ours by default give the class token a position as "
            "well; DeiT III does as the diagram.",
            "Both can express the same: only the sum of the class token and its position enters the model "
            "(`tests/laws/test_positions.py`, [glossary](glossary.md)).",
            "holds, with a difference",
        ),
        exact(
            "The sequence has the shape (N, D), and (N+1, D) with the class token.",
            POSITIONS,
            "The table of positions has a row for each of the N+1 tokens (`tests/laws/test_positions.py`).",
        ),
        exact(
            "A block adds attention of the normed tokens, then the feed-forward network of the normed tokens.",
            BLOCKS,
            "Equations 2 and 3 of Dosovitskiy et al. 2021 (`nn/block.py`, `tests/laws/test_blocks.py`).",
        ),
        exact(
            "L such blocks stand in a row; the class token is taken out and becomes a number for each class.",
            BLOCKS,
            "`test_the_model_is_its_diagram` in `tests/laws/test_blocks.py` computes the whole a second time.",
        ),
        exact(
            "The class token goes through an MLP head.",
            BLOCKS,
            "The paper has one hidden layer when it pre-trains and a single linear layer when it fine-tunes (§3.1).",
            "Fine-tuned checkpoints mostly have the single layer, after a last LayerNorm that the diagram leaves out "
            "(equation 4; `tests/laws/test_blocks.py`, [glossary](glossary.md)).",
            "holds for pre-training",
        ),
    ),
)
QUESTIONS = Part("Questions and answers")
BIASES = Part(
    "What does a CNN take for granted that a ViT does not?",
    (
        asked(
            "CNNs have locality built in: their filters see neighbourhoods.",
            "locality",
            proved="By construction: a filter of 3 x 3 patches depends on nine patches and on nothing else "
            "(`tests/laws/test_study_global_attention.py`). The study asks what that is worth: what is lost when "
            "patches change places.",
        ),
        asked(
            "CNNs are equivariant to translation: one filter for all places.",
            "equivariance",
            also=(3, 4, 5, 1),
            proved="Of a filter that wraps around, for whole strides (`tests/laws/test_study_equivariance.py`). The "
            "study asks what a network of filters with zeros beyond its edges has learned.",
        ),
        Statement(
            "ViTs have neither of the two.",
            "vitral study run locality",
            "locality",
            also=(2,),
            verdict="too strong",
            found="Dosovitskiy et al. 2021 (arXiv 2010.11929, §3.1) say that it has much less of such bias, not none.",
            correction="Its MLPs are local and equivariant, and so is the cutting of patches; without positions all of "
            "a ViT is equivariant to whole patches, exactly (`tests/laws/test_study_equivariance.py`). And each patch "
            "is a neighbourhood.",
        ),
        asked(
            "From the first block on, any token may read any other.",
            "global_attention",
            also=(1, 4, 5),
            proved="A first block with random weights depends on every pixel "
            "(`tests/laws/test_study_global_attention.py`), and so does each trained one, below. The study asks how "
            "far it looks.",
        ),
        asked(
            "A ViT is hungrier for images, as it must find out by itself what lies where.",
            "data_hunger",
            also=(4, 5, 2),
        ),
        asked("Things far apart are compared more easily by a ViT than by a CNN.", "long_range", also=(5, 6)),
    ),
    "That near things belong together, and that a thing means the same wherever it is. A ViT takes less of both for "
    "granted, not nothing: it has patches, and maps that all places share. Here that costs it much with few images, "
    "and less when these are shifted.",
    3,
)
TOKEN = Part(
    "Why a class token, when a mean of the patches would do?",
    (
        exact(
            "A ViT is read by its class token rather than by the mean of its patches.",
            BLOCKS,
            "Dosovitskiy et al. 2021 (arXiv 2010.11929, §D.3) keep it to stay near the original Transformer; with a "
            "learning rate of its own the mean does as well. Vitral has both (`tests/laws/test_blocks.py`).",
            verdict="a choice, not a need",
        ),
        exact(
            "The class token is a token of learned numbers at the head of the sequence, as in BERT.",
            BLOCKS,
            "Dosovitskiy et al. 2021, §3.1, which names BERT's as its model.",
            verdict="holds, published",
        ),
        asked(
            "Over the layers it gathers what all patches say.",
            "cls_aggregates",
            also=(1, 2, 3),
            not_shown="that it reads all patches. That it reads, in both halves, is what was measured.",
        ),
        asked("The mean of the patches works, too.", "pooling"),
        exact(
            "DeiT averages over its patches.",
            "python -c \"import vitral; print(vitral.create('deit_tiny_patch16_224').pool)\"",
            "DeiT reads its class token.",
            "Touvron et al. 2021, arXiv 2012.12877, §3; what its distilled model averages are the answers of two "
            "tokens (§4). Swin (arXiv 2103.14030) is among those that average over patches.",
            "wrong",
        ),
        Statement(
            "The mean is sometimes better, if there are images enough.",
            "vitral study run pooling",
            "pooling",
            also=(0,),
            verdict="not tested as stated",
            found="How many images there are was not varied. With those there were the mean is {lead}.",
        ),
    ),
    "By choice. Both are in use, and here both are equally good, each at its own learning rate.",
    3,
)
COST = Part(
    "What does attention cost as the number of patches grows?",
    (
        asked(
            "Attention costs O(N² D).",
            "attention_cost",
            also=(1, 5),
            proved="A block takes 12 N D² + 2 N² D multiply-adds, the second of them for attention's own products "
            "(`tests/laws/test_study_attention_cost.py`). The study asks how the time grows.",
        ),
        exact(
            "An image of 224 pixels in patches of 16 is 196 patches, which is manageable.",
            "vitral models vit_base_patch16_224",
            "14 x 14 = 196, and CLS. Attention's own products are 4 % of a ViT-B's multiply-adds there "
            "(`tests/laws/test_study_attention_cost.py`).",
            verdict="right",
        ),
        exact(
            "One of 1,024 pixels is 4,096 patches; a head's matrix has 64 million entries.",
            "vitral models vit_base_patch16_224 --img-size 1024",
            "4,096 patches is right.",
            "4,096 x 4,096 = 16.8 million entries; 64 is what they take in MiB, in float32 (768 MiB over 12 heads; "
            "4,097² with CLS; `tests/laws/test_study_attention_cost.py`). And a fused kernel never forms the matrix.",
            "wrong by four",
        ),
        asked(
            "That is why hierarchical models with windows, such as Swin, do dense prediction on large images.",
            "attention_cost",
            7,
            not_shown="that this is why. The cost within windows was measured, dense prediction was not; Swin's "
            "authors give that reason (arXiv 2103.14030, §1).",
        ),
    ),
    "A block's linear maps grow with N, attention's products with N²; these overtake those at N = 6 D. A fused kernel "
    "keeps memory that grows with N alone.",
    3,
)
BESIDE = Part(
    "What is said beside it",
    (
        asked("Learned 1-D positions discover the image's grid.", "positions"),
        asked("Attention maps show what the model looked at.", "attention_maps"),
        asked("CNNs go by texture, ViTs by shape.", "shape_or_texture", also=(1, 2, 3)),
        asked("With the right remedies a ViT learns from few images.", "remedies", also=(4, 5, 1, 2)),
    ),
)
PARTS = (OBJECTIVES, DIAGRAM, QUESTIONS, BIASES, TOKEN, COST, BESIDE)


def record(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((STUDIES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def hypothesis(study: str, number: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record(study)["hypotheses"][number]
    return found


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def share(one: Mapping[str, Any]) -> bool:
    """Whether an effect is nothing but shares of answers, which can be said in points."""
    return set(re.findall(r"(\w+)\[", one["effect"])) <= SHARES


def measured(one: Mapping[str, Any], points: bool) -> str:
    """What was asked and what was measured, in points where the row speaks of them."""
    in_points = points and share(one)
    scale, unit = (100, " points") if in_points else (1, "")
    mean, low, high = (f"{round(scale * value, 9) + 0.0:.3g}" for value in (one["mean"], *one["interval"]))
    rule, border = one["rule"]["kind"], scale * one["rule"]["border"]
    asks = "zero" if rule == "exactly" and not border else RULES[rule].format(border) + unit
    return (
        f"*{one['sentence']}* Measured: {mean}{unit} ({low} to {high}, {len(one['effects'])} seeds); the rule set "
        f"before: {asks}."
    )


def decided(statement: Statement) -> list[str]:
    """What a study says of a statement, a line a hypothesis."""
    found = record(statement.study)
    one, *further = (found["hypotheses"][number] for number in (statement.hypothesis, *statement.also))
    said = found["sentence"] if statement.hypothesis == 0 and not statement.verdict else ""
    asks = further if statement.verdict else [one, *further]
    points = any("points" in text for text in (said, *(own["sentence"] for own in asks)))
    lines = [f"And {own['verdict']}: {measured(own, points)}" for own in further]
    if statement.verdict:
        return lines
    verdict = found["verdict"] if statement.hypothesis == 0 else f"{one['verdict']}, of this"
    return [f"**{capital(verdict)}:** {said}{' ' if said else ''}Asked: {measured(one, points)}", *lines]


def demo() -> str:
    """What `vitral train` reached."""
    runs = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))["runs"]
    shares = ", ".join(f"{run['test_accuracy']:.1%}" for run in runs)
    return f"`vitral train` with no options: {shares} of test images right (seeds 0 to {len(runs) - 1})."


def lead() -> str:
    """How the mean of the patches stands beside the class token."""
    one = hypothesis("pooling", 0)
    low, high = one["interval"]
    side = "ahead" if low > 0 else "behind" if high < 0 else "neither ahead nor behind"
    return f"{side}, by less than counts as a difference" if one["verdict"] == "supported" else side


def filled(text: str) -> str:
    """A text with its numbers and verdicts from records."""
    made = {"demo": demo, "lead": lead, "attention_maps": lambda: f"*{record('attention_maps')['verdict']}*"}
    for name, value in made.items():
        if f"{{{name}}}" in text:
            text = text.replace(f"{{{name}}}", value())
    return text


def row(statement: Statement) -> str:
    lines = [f"* *{statement.says}*"]
    if statement.proved:
        lines.append(f"**Proved:** {statement.proved}")
    if statement.verdict:
        lines.append(f"**{capital(statement.verdict)}:** {filled(statement.found)}")
    if statement.correction:
        lines[-1] += f" **Right is:** {statement.correction}"
    if statement.study:
        lines += decided(statement)
    if statement.not_shown:
        lines.append(f"**Not shown:** {statement.not_shown}")
    page = f"[The study](studies/{statement.study}.html): " if statement.study else ""
    return "  \n  ".join([*lines, f"{page}`{statement.command}`"])


def page() -> str:
    lines = [
        "# The lecture, sentence by sentence",
        "",
        'What "Vision Transformer from scratch" says and wants to teach, in our words, and what became of it here. '
        "Verdicts and numbers are those of the records in [studies](studies/index.html), measured on small models and "
        "drawn images: they say nothing about larger models or photographs. In brackets stand the 95 % interval and "
        "the number of seeds. Written by `python -m benchmarks.lecture`.",
    ]
    for part in PARTS:
        lines += ["", f"{'#' * part.level} {part.title}"]
        lines += ["", part.answer] if part.answer else []
        lines += ["", *(row(statement) for statement in part.statements)] if part.statements else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
