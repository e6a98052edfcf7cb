"""Masked autoencoders, pre-trained or fine-tuned, as their authors wrote them (He et al. 2022).

timm's names. Fine-tuned models pool the patches and then normalise (`fc_norm`); pre-trained ones carry a decoder, which
features do not need.
"""

from vitral.weights.checkpoint_file import Checkpoint
from vitral.weights.source import IMAGENET, CheckpointMetadata, Source
from vitral.weights.sources.timm import is_bare, is_plain_vit, rules

DECODER = "it reconstructs hidden patches in pre-training only"


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    own = "decoder_pos_embed" in names or ("mask_token" in names and "blocks.0.ls1.gamma" not in names)
    return is_plain_vit(checkpoint) and (own or (is_bare(checkpoint) and "fc_norm.weight" in names))


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    return CheckpointMetadata(
        preprocessing=IMAGENET | dict(crop=0.875),
        assumed=("preprocessing: ImageNet's mean and std, as in MAE's code",),
        resampling="hugging_face",
    )


mae = Source(
    "mae",
    ("decoder_pos_embed", "mask_token", "fc_norm.weight"),
    recognises,
    rules,
    metadata,
    dropped={
        "mask_token": DECODER,
        "decoder_pos_embed": DECODER,
        "decoder_embed.{p}": DECODER,
        "decoder_norm.{p}": DECODER,
        "decoder_pred.{p}": DECODER,
        "decoder_blocks.{i}.{m}{p}": DECODER,
    },
)
