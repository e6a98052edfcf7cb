"""Small models of other libraries, to train as `--model benchmarks/others.py:NAME` and to look into."""

from torch import nn

from benchmarks.peers import timm


def swin(num_classes: int, img_size: int) -> nn.Module:
    """timm's Swin, 4 blocks: 24 x 24 patches in windows of 6, then 12 x 12."""
    return timm.models.swin_transformer.SwinTransformer(
        img_size=img_size,
        patch_size=2,
        window_size=6,
        embed_dim=48,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=num_classes,
    )


def registers(num_classes: int) -> nn.Module:
    """timm's ViT with 12 blocks, CLS and 4 registers, 6 x 6 patches."""
    return timm.models.vision_transformer.VisionTransformer(
        img_size=48, patch_size=8, embed_dim=64, depth=12, num_heads=4, reg_tokens=4, num_classes=num_classes
    )
