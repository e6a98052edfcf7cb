"""`pooling`: mean pooling works as well as the class token.

Three ways to read the output of the same encoder: a class token, the mean of the patches, and a learned query that
attends to them. Each has the learning rate that is best for it, since one rate for all would favour whichever it was
chosen with. A small object contributes less to a mean, so its size is varied.
"""

from vitral.nn.family.pool import AttentionPool
from vitral.studies.arms import BAG, CLS, RATIO, RESNET, SHUFFLED, SMALL_SHAPES, VIT, WIDTH, swept_budgets, variant
from vitral.studies.decision_rules import Beyond, Within
from vitral.studies.effects import Effect, accuracy, mean
from vitral.studies.figures import dots
from vitral.studies.study import Arm, Condition, Fact, Hypothesis, Outcomes, Reference, Study

DEPTH = 4
# The parameters of an attention pool besides its MLP: the projections of the query, of keys and values and of the
# output, a norm, and the query itself. Its MLP is as wide as each block's, so all MLPs are narrower by what this takes.
POOL_PARAMETERS = 4 * (WIDTH**2 + WIDTH) + 3 * WIDTH
HIDDEN = round((DEPTH * RATIO * WIDTH * (2 * WIDTH + 1) - POOL_PARAMETERS) / ((DEPTH + 1) * (2 * WIDTH + 1)))

MEAN = variant(VIT, "vit, mean")  # the reference of all studies pools by the mean of its patches
ATTENTION_POOL = Arm("vit, attention pool", settings=dict(pool=AttentionPool, mlp_ratio=HIDDEN / WIDTH))
POOLS = (MEAN, CLS, ATTENTION_POOL)
CONTROLS = (BAG, RESNET, SHUFFLED)
EVERY = tuple(arm.name for arm in POOLS)
OWN = "own images"  # the one condition with a reader's images, whose objects have no known size


def lead(one: Arm, other: Arm, condition: str) -> Effect:
    """How far one arm's accuracy is above another's."""
    return accuracy[one.name, condition] - accuracy[other.name, condition]


MEAN_LEAD, MEAN_LEAD_SMALL = (lead(MEAN, CLS, f"{size} shapes") for size in ("large", "small"))
ATTENTION_LEAD, ATTENTION_LEAD_SMALL = (lead(ATTENTION_POOL, MEAN, f"{size} shapes") for size in ("large", "small"))

pooling = Study(
    name="pooling",
    number=7,
    title="Pooling",
    claim="Mean pooling over the patches works as well as a class token.",
    question="How does the way of pooling change a ViT's accuracy, with the best learning rate for each?",
    arms=(*POOLS, *CONTROLS),
    conditions=(
        Condition("large shapes", SMALL_SHAPES),
        Condition("small shapes", SMALL_SHAPES.replace("0.34", "0.24").replace("0.42", "0.3"), arms=EVERY),
    ),
    hypotheses=(
        Hypothesis(
            "Averaged over both sizes, mean pooling and the class token are equally accurate to within two points.",
            mean(MEAN_LEAD, MEAN_LEAD_SMALL),
            Within(0.02),
        ),
        Hypothesis(
            "Averaged over both sizes, mean pooling is at most two points less accurate than the class token.",
            mean(MEAN_LEAD, MEAN_LEAD_SMALL),
            Beyond(-0.02),
        ),
        Hypothesis(
            "Averaged over both sizes, attention pooling and mean pooling are equally accurate to within two points.",
            mean(ATTENTION_LEAD, ATTENTION_LEAD_SMALL),
            Within(0.02),
        ),
        Hypothesis(
            "With small objects the class token gains more than two points on mean pooling.",
            MEAN_LEAD - MEAN_LEAD_SMALL,
            Beyond(0.02),
        ),
        Hypothesis(
            "With small objects attention pooling gains more than two points on mean pooling.",
            ATTENTION_LEAD_SMALL - ATTENTION_LEAD,
            Beyond(0.02),
        ),
    ),
    outcomes=Outcomes(
        supported="Mean pooling and the class token are equally accurate to within two points, each at its own "
        "learning rate.",
        refuted="Not equally accurate: one of the two is better by more than two points, although each has its own "
        "learning rate. The second hypothesis shows which one.",
        inconclusive="These runs do not decide whether the two are equally accurate to within two points.",
    ),
    would_change="Many more samples, after which the speed of learning matters less; a larger model; objects that fill "
    "far less of the image; tasks that depend on locations rather than on the whole image.",
    budgets=swept_budgets(without=("resnet", BAG.name, SHUFFLED.name)),
    reference=Reference("vit, mean", "large shapes", 0.8),
    figures=(dots("accuracy", "test accuracy", "Test accuracy of each way of pooling, on large and on small shapes."),),
    published=(
        Fact(
            "A ViT-S/16 with mean pooling reaches 76.5 % on ImageNet in 90 epochs with a plain recipe.",
            "Beyer et al. 2022, arXiv 2205.01580",
        ),
    ),
    correction="The lecture says that DeiT averages over the patch tokens. It uses its class token (Touvron et al. "
    "2021, arXiv 2012.12877, §3); its distilled model averages the outputs of two tokens, the class token and the "
    "distillation token (§4). Swin (arXiv 2103.14030) and the plain baselines of Beyer et al. 2022 (arXiv 2205.01580) "
    "are among the models that average over patches.",
    sweep="small shapes",  # where no model is near its best
    own_data=True,
    on_own_images=dict(
        conditions=(Condition(OWN, ""),),
        hypotheses=(
            Hypothesis(
                "Mean pooling and the class token are equally accurate to within two points.",
                lead(MEAN, CLS, OWN),
                Within(0.02),
            ),
            Hypothesis(
                "Mean pooling is at most two points less accurate than the class token.",
                lead(MEAN, CLS, OWN),
                Beyond(-0.02),
            ),
            Hypothesis(
                "Attention pooling and mean pooling are equally accurate to within two points.",
                lead(ATTENTION_POOL, MEAN, OWN),
                Within(0.02),
            ),
        ),
        figures=(dots("accuracy", "test accuracy", "Test accuracy of each way of pooling."),),
        sweep=OWN,
    ),
)
