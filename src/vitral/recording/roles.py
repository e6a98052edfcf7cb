"""What each token of a model is: CLS, register, patch at row and column; known, deduced from what ran, or given.

Deduced from the patch projection, if one was seen: a convolution whose kernel is its stride turns the image into
`rows` x `columns` vectors, and whatever tokens the attention has more than that came before them. Else from the learned
tokens among the model's parameters and the shape of the image. A token is called CLS only by the model's own word: a
learned token of such a name, or its `num_prefix_tokens`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError

MOST_PREFIX_TOKENS = 16
Grid = tuple[int, int]


@dataclass(frozen=True)
class Tokens:
    """The tokens before the patches, by name, then so many patches, in `found` rows and columns if that is known.

    `how` this is known is said in words.
    """

    prefix: tuple[str, ...]
    patches: int
    found: Grid | None
    how: str

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches. Raises `WatchError` if nothing tells."""
        if self.found is None:
            raise WatchError(
                f"{self.patches} patches are no square grid, nor one of the image's shape. "
                "Give the model a `grid` = (rows, columns) and `num_prefix_tokens`."
            )
        return self.found

    @property
    def has_cls(self) -> bool:
        return self.prefix[:1] == ("cls",)

    @property
    def roles(self) -> tuple[str, ...]:
        """`cls`, `register 0`, ..., then `patch 0 0`, `patch 0 1`, ...: row and column, or a number without a grid."""
        if self.found is None:
            return (*self.prefix, *(f"patch {index}" for index in range(self.patches)))
        rows, columns = self.found
        return (*self.prefix, *(f"patch {row} {column}" for row in range(rows) for column in range(columns)))


def tokens_of(model: nn.Module, n: int, projected: Grid | None, image: Grid | None, given: int | None) -> Tokens:
    """What `n` tokens are.

    `projected` is the grid that a patch projection gave, `image` the height and width of what it read (both None if
    none was seen), `given` the number of tokens before the patches as the caller said it.
    Raises `UsageError` if nothing tells.
    """
    said = getattr(model, "num_prefix_tokens", None) if given is None else given
    own, how = getattr(model, "grid", None), "the model's own word"
    if own is None and projected is not None:
        own, how = projected, "the grid of the patch projection"
    if said is None and own is not None and 0 <= n - own[0] * own[1] <= MOST_PREFIX_TOKENS:
        said = n - own[0] * own[1]
    learned = len(list(prefix_parameters(model)))
    if said is None and learned:
        said = learned
    if said is None:
        said = next((count for count in ((0, 1) if own is None else (0,)) if shaped(n - count, image or own)), None)
    if said is None:
        raise UsageError(nowhere(n, own, how, image))
    if said > n:
        raise UsageError(f"num_prefix_tokens={said} is more than the {n} tokens that were seen.")
    if own is None or own[0] * own[1] != n - said:
        own, how = shaped(n - said, image), f"{said} before the patches, and these in a grid of the image's shape"
    return Tokens(
        named(model, said), n - said, own, how if given is None else f"num_prefix_tokens={given} as given; {how}"
    )


def nowhere(n: int, own: Grid | None, how: str, image: Grid | None) -> str:
    """Why `n` tokens have no place in the image."""
    shape = f"a grid of the shape of an image of {image[0]} x {image[1]}" if image else "a square grid"
    fitting = (
        f"the {own[0]} x {own[1]} patches known by {how}, nor {shape}" if own else f"{shape}, nor one more than it"
    )
    return (
        f"{n} tokens are not {fitting}. They may be channels, or patches in an order that is not known, so they have "
        "no map. If other tokens come before the patches, say how many: num_prefix_tokens=..."
    )


def shaped(patches: int, image: Grid | None) -> Grid | None:
    """Rows and columns in the ratio of the image's sides, square if no image was seen; None if there are none such."""
    height, width = image or (1, 1)
    rows = math.isqrt(patches * height // width)
    fits = rows > 0 and patches % rows == 0 and rows * width == patches // rows * height
    return (rows, patches // rows) if fits else None


def named(model: nn.Module, count: int) -> tuple[str, ...]:
    """Names for the tokens before the patches: its parameters' if these add up, else numbers, the first being CLS if
    the model says that it has so many tokens there."""
    found = list(prefix_parameters(model))
    if len(found) == count:
        return tuple(found)
    numbered = tuple(f"prefix {index}" for index in range(count))
    return ("cls", *numbered[1:]) if count and getattr(model, "num_prefix_tokens", None) == count else numbered


def prefix_parameters(model: nn.Module) -> Iterator[str]:
    """`cls`, `distillation`, `register 0`, ...: the learned tokens that a model has, in the order models put them."""
    words = {"cls": ("cls_tok", "class_tok", "class_emb"), "distillation": ("dist",), "register": ("reg",)}
    parameters = [(name.rpartition(".")[2], value) for name, value in model.named_parameters()]
    for role, parts in words.items():
        for name, value in parameters:
            token = "token" in name or "class_emb" in name
            if name == role or (token and any(name.startswith(part) for part in parts)):
                count = counted(value)
                yield from (role if role != "register" else f"{role} {index}" for index in range(count))
                break


def counted(value: Tensor) -> int:
    """How many tokens a parameter of shape (D), (1, n, D) or (n, D) holds."""
    return 1 if value.ndim == 1 else value.shape[-2]
