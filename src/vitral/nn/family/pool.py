"""Other ways to read the tokens."""

from jaxtyping import Float
from torch import Tensor, nn


class MeanPool(nn.Module):
    """The mean of the patch tokens; prefix tokens are left out (Beyer et al. 2022, "Better plain ViT baselines")."""

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        return x[:, num_prefix_tokens:].mean(dim=1)
