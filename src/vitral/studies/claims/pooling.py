"""`pooling`: average pooling works as well as the class token.

Three ways to read the same encoder: a class token, the mean of the patches, and a learned query that attends to them.
Each has the learning rate that is best for it, since one rate for all favours whichever it was chosen with. An object
that fills less of the image leaves less of itself in a mean, so its size is varied.
"""

from vitral.nn.family.pool import AttentionPool
from vitral.studies.arms import BAG, CLS, RATIO, RESNET, SAMPLES, SHUFFLED, SMALL_SHAPES, VIT, WIDTH, named
from vitral.studies.drawing import dots
from vitral.studies.rules import Beyond, Within
from vitral.studies.study import Arm, Budget, Condition, Fact, Hypothesis, Outcomes, Regime, Study

DEPTH = 4
# The query's projections, the key and value's, the output's, a norm and the query itself; and it has an MLP of its own,
# as wide as each block's: all MLPs are narrower by what that takes.
QUERY = 4 * (WIDTH**2 + WIDTH) + 3 * WIDTH
HIDDEN = round((DEPTH * RATIO * WIDTH * (2 * WIDTH + 1) - QUERY) / ((DEPTH + 1) * (2 * WIDTH + 1)))

MEAN = named(VIT, "vit, mean")  # the reference of all studies: it reads the mean of its patches
QUERYING = Arm("vit, attention pool", settings=dict(pool=AttentionPool, mlp_ratio=HIDDEN / WIDTH))
POOLS = (MEAN, CLS, QUERYING)
CONTROLS = (BAG, RESNET, SHUFFLED)
EVERY = tuple(arm.name for arm in POOLS)


def ahead(one: Arm, other: Arm, condition: str) -> str:
    """By how much one is better, as a formula."""
    return f'accuracy["{one.name}", "{condition}"] - accuracy["{other.name}", "{condition}"]'


MEAN_AHEAD, MEAN_AHEAD_SMALL = (ahead(MEAN, CLS, f"{size} shapes") for size in ("large", "small"))
QUERY_AHEAD, QUERY_AHEAD_SMALL = (ahead(QUERYING, MEAN, f"{size} shapes") for size in ("large", "small"))

pooling = Study(
    name="pooling",
    number=7,
    title="Pooling",
    claim="Average pooling over the patches works as well as a class token.",
    question="What does a ViT lose or gain by the way its tokens are read, at the learning rate that suits each way?",
    arms=(*POOLS, *CONTROLS),
    conditions=(
        Condition("large shapes", SMALL_SHAPES),
        Condition("small shapes", SMALL_SHAPES.replace("0.34", "0.24").replace("0.42", "0.3"), arms=EVERY),
    ),
    hypotheses=(
        Hypothesis(
            "The mean of the patches and the class token are equally good, over both sizes, to within two points.",
            f"mean({MEAN_AHEAD}, {MEAN_AHEAD_SMALL})",
            Within(0.02),
        ),
        Hypothesis(
            "The mean is at least as good as the class token, over both sizes, give or take two points.",
            f"mean({MEAN_AHEAD}, {MEAN_AHEAD_SMALL})",
            Beyond(-0.02),
        ),
        Hypothesis(
            "An attention pool and the mean are equally good, over both sizes, to within two points.",
            f"mean({QUERY_AHEAD}, {QUERY_AHEAD_SMALL})",
            Within(0.02),
        ),
        Hypothesis(
            "The smaller the object, the better is the class token beside the mean, by more than two points.",
            f"({MEAN_AHEAD}) - ({MEAN_AHEAD_SMALL})",
            Beyond(0.02),
        ),
        Hypothesis(
            "The smaller the object, the better is an attention pool beside the mean, by more than two points.",
            f"({QUERY_AHEAD_SMALL}) - ({QUERY_AHEAD})",
            Beyond(0.02),
        ),
    ),
    outcomes=Outcomes(
        supported="Found: the mean and the class token are equally good to within two points, each at its own learning "
        "rate, with tens of thousands of drawn images.",
        refuted="Not equally good: one of the two is better by more than two points, though each has its own learning "
        "rate. Which one, the second hypothesis says.",
        inconclusive="These runs cannot tell whether the two are equally good to within two points.",
    ),
    would_change="Many more samples, after which how fast each learns matters less; a larger model; objects that fill "
    "far less of the image; tasks that ask for places, not for the whole.",
    budgets={
        "smoke": Budget(256, 2, images=512, judged=200, without=("resnet", BAG.name, SHUFFLED.name)),
        "quick": Budget(SAMPLES, 4, (0.5, 1.0, 2.0)),
        "full": Budget(4 * SAMPLES, 5, (0.25, 0.5, 1.0, 2.0)),
    },
    regime=Regime("vit, mean", "large shapes", 0.8),
    figures=(dots("accuracy", "test accuracy", "Each way of reading the tokens, on large and on small shapes."),),
    published=(
        Fact(
            "A ViT-S/16 that reads the mean of its patches and has no class token learns ImageNet to 76.5 % in 90 "
            "epochs, by a plain recipe.",
            "Beyer et al. 2022, arXiv 2205.01580",
        ),
    ),
    correction="The lecture says that DeiT averages over the patch tokens. It reads its class token (Touvron et al. "
    "2021, arXiv 2012.12877, §3); what its distilled model averages are the answers of two tokens, the class token and "
    "the distillation token (§4). Swin (arXiv 2103.14030) and the plain baselines of Beyer et al. 2022 (arXiv "
    "2205.01580) are among those that average over patches.",
    sweep="small shapes",  # where no model is near its best
    own_data=True,
)
