"""Station 3: a class token, and a position for each token.

    patches            [ P0     P1     P2   ...  Pn ]            (b, n, d)
    class token   [CLS,  P0     P1     P2   ...  Pn ]            (b, n + 1, d)
    positions       +0   +1     +2     +3        +n              one learned row for each place

Attention does not know the order of its tokens, so a position is added to each: a row of learned numbers. The class
token is one more token of learned numbers, the same for every image. It comes first, has a position of its own, and in
the blocks it collects what the head needs.

`cls_token` has a batch of one; `x.expand(b, -1, -1)` repeats it without copying. `torch.cat([...], dim=)` joins
sequences one after the other.

Before you write: a batch has two images of 48 x 48 pixels, in patches of 8 x 8. How many different rows of positions
are added?
    a  37        b  74        c  36
"""

import torch
from torch import Tensor

prediction = ""  # "a", "b" or "c"


def with_tokens(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """Patches (b, n, d), cls_token (1, 1, d), pos_embed (1, n + 1, d) -> the sequence (b, n + 1, d)."""
    # Yours: put the class token before the patches of every image, then add the positions.
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches], dim=1) + pos_embed
