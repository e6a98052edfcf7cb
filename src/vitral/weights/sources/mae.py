"""Masked autoencoders, pre-trained or fine-tuned, as their authors wrote them (He et al. 2022).

timm's names. Fine-tuned models pool the patches and then norm (`fc_norm`); pre-trained ones carry a decoder, which is
not needed to look at images.
"""

from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.source import Source
from vitral.weights.sources.timm import bare, plain, rules

DECODER = "it rebuilds hidden patches while pre-training only"


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    own = "decoder_pos_embed" in names or ("mask_token" in names and "blocks.0.ls1.gamma" not in names)
    return plain(contents) and (own or (bare(contents) and "fc_norm.weight" in names))


def known(contents: Contents) -> Known:
    return Known(
        preprocessing=IMAGENET | dict(crop=0.875),
        assumed=("pixels of ImageNet's mean and deviation, as MAE's code",),
        resampling="hugging_face",
    )


mae = Source(
    "mae",
    recognises,
    rules,
    known,
    dropped={
        "mask_token": DECODER,
        "decoder_pos_embed": DECODER,
        "decoder_embed.{p}": DECODER,
        "decoder_norm.{p}": DECODER,
        "decoder_pred.{p}": DECODER,
        **{
            f"decoder_blocks.{{i}}.{part}.{{p}}": DECODER
            for part in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        },
    },
)
