"""Other people's models, small and with random weights, each with an independent way to its attention.

`PEERS[name]` makes a `Peer`. Its `reference(images)` gives every layer's weights as the peer itself forms them when its
fused kernels are off, or as its own module returns them.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from benchmarks.peers import timm, torchvision  # first: it makes torchvision importable

    import transformers  # isort: skip
    from vit_pytorch import ViT  # isort: skip

from written_vits import SIZE, Style, WrittenViT  # isort: skip

transformers.logging.set_verbosity_error()

GRID = (4, 6)
SIZES = dict(img_size=(32, 48), patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
HF = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=32, patch_size=8)
DINO = {key: value for key, value in HF.items() if key != "intermediate_size"} | dict(mlp_ratio=2)


@dataclass
class Peer:
    model: nn.Module
    size: tuple[int, int]
    reference: Callable[[nn.Module, Tensor], list[Tensor]]
    prefix: tuple[str, ...] = ("cls",)
    grid: tuple[int, int] = GRID
    windows: bool = False
    classes: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    def images(self, count: int = 2) -> Tensor:
        return torch.randn(count, 3, *self.size, generator=torch.Generator().manual_seed(1))


def shaken(model: nn.Module) -> nn.Module:
    """In eval mode, with no parameter left at zero or one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def by_hook(
    pick: Callable[[nn.Module], bool], of_input: bool, before: Callable[[nn.Module], None] = lambda model: None
):
    """Weights as they pass a module of the model: dropout of attention, or a softmax that is a module."""

    def reference(model: nn.Module, images: Tensor) -> list[Tensor]:
        before(model)
        found: list[Tensor] = []
        hooks = [
            module.register_forward_hook(lambda _, given, made: found.append(given[0] if of_input else made))
            for module in model.modules()
            if pick(module)
        ]
        model(images)
        for hook in hooks:
            hook.remove()
        return found

    return reference


def unfused(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False


def timm_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    drops = {id(module.attn_drop) for module in model.modules() if hasattr(module, "attn_drop")}
    return by_hook(lambda module: id(module) in drops, True, unfused)(model, images)


def hf_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    model.set_attn_implementation("eager")
    return list(model(images, output_attentions=True).attentions)


def hf_swin_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Every block's, where `output_attentions` gives the last of each stage."""
    model.set_attn_implementation("eager")
    found: list[Tensor] = []
    for module in model.modules():
        if type(module).__name__ == "SwinAttention":
            module.register_forward_hook(lambda own, given, made: found.append(made[1]))
    model(images, output_attentions=True)
    return found


def multi_head_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What `nn.MultiheadAttention` returns when it is asked for weights, given what the model gave it."""
    asked: list[tuple[nn.Module, tuple, dict]] = []
    hooks = [
        module.register_forward_pre_hook(lambda own, args, kwargs: asked.append((own, args, kwargs)), with_kwargs=True)
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return [
        own(*args, **(kwargs | dict(need_weights=True, average_attn_weights=False)))[1] for own, args, kwargs in asked
    ]


def siglip_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    pooled = multi_head_reference(model, images)
    return [*hf_reference(model, images), *pooled]


def torchvision_swin_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    """softmax(q kᵀ / √e + bias + mask) of each shifted window, written from Liu et al. 2021, §3.2."""
    given: list[tuple[nn.Module, Tensor]] = []
    windowed = torchvision.models.swin_transformer.ShiftedWindowAttention
    hooks = [
        module.register_forward_pre_hook(lambda own, args: given.append((own, args[0])))
        for module in model.modules()
        if isinstance(module, windowed)
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return [window_weights(own, x) for own, x in given]


def window_weights(own: Any, x: Tensor) -> Tensor:
    side, shift = own.window_size[0], own.shift_size[0]
    rows, columns = x.shape[1:3]
    shift = 0 if side >= rows or side >= columns else shift
    x = x.roll((-shift, -shift), (1, 2))
    region = torch.zeros(rows, columns)
    for number, edge in enumerate((rows - side, rows - shift)):
        region[edge:] += (number + 1) * 10 if shift else 0
    for number, edge in enumerate((columns - side, columns - shift)):
        region[:, edge:] += number + 1 if shift else 0

    def cut(map_: Tensor) -> Tensor:
        parts = map_.unflatten(1, (-1, side)).unflatten(3, (-1, side)).transpose(2, 3)
        return parts.flatten(0, 2).flatten(1, 2)

    tokens, regions = cut(x), cut(region[None, ..., None])[..., 0]
    q, k, _ = own.qkv(tokens).unflatten(-1, (3, own.num_heads, -1)).permute(2, 0, 3, 1, 4)
    apart = (regions[:, :, None] != regions[:, None]) * -100.0
    apart = apart.repeat(len(x), 1, 1)[:, None]
    return (q @ k.mT * q.shape[-1] ** -0.5 + own.get_relative_position_bias() + apart).softmax(-1)


class ByHand(nn.Module):
    """A reader's own: attention written out, q and k halved into rotary-like parts, a class token, no names to know."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 24, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 24))
        self.layers = nn.ModuleList(nn.ModuleDict({n: nn.Linear(24, 24) for n in "qkvo"}) for _ in range(2))
        self.answer = nn.Linear(24, 5)
        self.kept: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        x = self.project(images).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        self.kept.clear()
        for layer in self.layers:
            q, k, v = (layer[name](x).unflatten(-1, (3, 8)).transpose(1, 2) for name in "qkv")
            weights = F.softmax(q @ k.transpose(-2, -1) / 8**0.5, dim=-1)
            self.kept.append(weights)
            x = x + layer["o"]((weights @ v).transpose(1, 2).flatten(2))
        return self.answer(x[:, 0])


def by_hand_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    model(images)
    return [weights.clone() for weights in model.kept]


def of_timm(name: str, prefix: tuple[str, ...] = ("cls",), **changes: Any) -> Callable[[], Peer]:
    return lambda: Peer(timm.create_model(name, **(SIZES | changes)), (32, 48), timm_reference, prefix)


def of_hf(model: str, config: str, settings: dict[str, Any] = HF, **more: Any) -> Callable[[], Peer]:
    def make() -> Peer:
        built = getattr(transformers, model)(getattr(transformers, config)(**settings))
        return Peer(built, (32, 32), **(dict(reference=hf_reference, grid=(4, 4)) | more))

    return make


def swin(
    make: Callable[[], nn.Module], size: tuple[int, int], reference: Callable[..., list[Tensor]]
) -> Callable[[], Peer]:
    grid = size[0] // 8, size[1] // 8  # of the last stage
    return lambda: Peer(make(), size, reference, (), grid, windows=True)


REGISTERS = tuple(f"register {index}" for index in range(4))


def by_hand(grid: tuple[int, int] = (4, 4), **style: Any) -> Callable[[], Peer]:
    """A ViT of `written_vits`, which keeps its own weights."""
    prefix = {"none": (), "registers behind": tuple(f"register {number}" for number in range(3))}

    def make() -> Peer:
        torch.manual_seed(0)
        model = WrittenViT(Style(**style), num_classes=5)
        own = model.style
        return Peer(
            model, SIZE, written_reference, prefix.get(own.prefix, ("cls",)), grid, windows=own.keys == "windows"
        )

    return make


def written_reference(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What the model kept; windows, which it has as an axis of units, stand in the batch."""
    model(images)
    return [weights.transpose(1, 2).flatten(0, 1) if weights.ndim == 5 else weights for weights in model.truth]


PEERS: dict[str, Callable[[], Peer]] = {
    "timm ViT": of_timm("vit_tiny_patch16_224"),
    "timm ViT, registers, mean pool": of_timm(
        "vit_small_patch16_224", REGISTERS, reg_tokens=4, class_token=False, global_pool="avg"
    ),
    "timm DeiT, distilled": of_timm("deit_tiny_distilled_patch16_224", ("cls", "distillation")),
    "timm Swin": swin(
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=(64, 96),
            patch_size=4,
            window_size=4,
            embed_dim=24,
            depths=(2, 2),
            num_heads=(2, 4),
            num_classes=5,
        ),
        (64, 96),
        timm_reference,
    ),
    "timm DINOv3": of_timm("vit_small_patch16_dinov3", ("cls", *REGISTERS), embed_dim=48),
    "timm EVA-02": of_timm("eva02_tiny_patch14_224", embed_dim=48),
    "timm BEiT": of_timm("beit_base_patch16_224"),
    "Hugging Face ViT": of_hf("ViTForImageClassification", "ViTConfig", HF | dict(num_labels=5)),
    "Hugging Face DeiT": of_hf(
        "DeiTForImageClassificationWithTeacher", "DeiTConfig", HF | dict(num_labels=5), prefix=("cls", "distillation")
    ),
    "Hugging Face DINOv2": of_hf("Dinov2ForImageClassification", "Dinov2Config", DINO | dict(num_labels=5)),
    "Hugging Face DINOv2, registers": of_hf(
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        DINO | dict(num_labels=5),
        prefix=("cls", *REGISTERS),
    ),
    "Hugging Face CLIP": of_hf("CLIPVisionModel", "CLIPVisionConfig", classes=False),
    "Hugging Face SigLIP": of_hf(
        "SiglipVisionModel", "SiglipVisionConfig", reference=siglip_reference, prefix=(), classes=False
    ),
    "Hugging Face Swin": swin(
        lambda: transformers.SwinForImageClassification(
            transformers.SwinConfig(
                num_labels=5, image_size=64, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4
            )
        ),
        (64, 64),
        hf_swin_reference,
    ),
    "torchvision ViT": lambda: Peer(
        torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=48, num_classes=5
        ),
        (32, 32),
        multi_head_reference,
        grid=(4, 4),
    ),
    "torchvision Swin": swin(
        lambda: torchvision.models.SwinTransformer(
            patch_size=[4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=5
        ),
        (64, 96),
        torchvision_swin_reference,
    ),
    "vit-pytorch": lambda: Peer(
        ViT(image_size=(32, 48), patch_size=8, num_classes=5, dim=24, depth=2, heads=3, mlp_dim=48, dim_head=8),
        (32, 48),
        by_hook(lambda module: isinstance(module, nn.Softmax), False),
    ),
    "written by hand": lambda: Peer(ByHand(), (32, 48), by_hand_reference),
    "by hand: e / Σe, then v @ Aᵀ": by_hand(softmax="exp and sum", product="transposed"),
    "by hand: log-softmax, then a sum": by_hand(softmax="exp of logarithm", product="sum"),
    "by hand: a head at a time": by_hand(heads="looped", product="einsum of a list"),
    "by hand: heads in the batch": by_hand(heads="folded, heads first", product="bmm"),
    "by hand: weights divided by 0.9": by_hand(between="scaled", product="keywords"),
    "by hand: heads mixed": by_hand(between="heads mixed", product="values first"),
    "by hand: by columns, CLS behind": by_hand(columns=True, prefix="last"),
    "by hand: registers behind": by_hand(prefix="registers behind", unfolds=True),
    "by hand: keys merged in pairs": by_hand(prefix="none", keys="pooled", grid=(4, 2)),
    "by hand: windows beside the heads": by_hand(prefix="none", keys="windows"),
}


def peer(name: str) -> Peer:
    made = PEERS[name]()
    made.model = shaken(made.model)
    return made
