"""Masked autoencoders, pre-trained or fine-tuned, as their authors wrote them (He et al. 2022).

timm's names. Fine-tuned models pool the patches and then normalise (`fc_norm`); pre-trained ones carry a decoder, which
features do not need.
"""

from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.source import IMAGENET, Source, fixed_metadata
from vitral.weights.sources.timm import is_bare, is_plain_vit, rules

LAYERS = ("decoder_embed.{p}", "decoder_norm.{p}", "decoder_pred.{p}", "decoder_blocks.{i}.{m}{p}")
DECODER = "it reconstructs masked patches in pre-training only"


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    own = "decoder_pos_embed" in names or ("mask_token" in names and "blocks.0.ls1.gamma" not in names)
    return is_plain_vit(checkpoint) and (own or (is_bare(checkpoint) and "fc_norm.weight" in names))


metadata = fixed_metadata(IMAGENET | dict(crop=0.875), "as in MAE's code", resampling="hugging_face")
mae = Source(
    "mae",
    ("decoder_pos_embed", "mask_token", "fc_norm.weight"),
    recognises,
    rules,
    metadata,
    dropped=dict.fromkeys(("mask_token", "decoder_pos_embed", *LAYERS), DECODER),
)
