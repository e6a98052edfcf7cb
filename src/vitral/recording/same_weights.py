"""Whether two calls of attention have the same weights: one softmax whose values are multiplied in two parts.

A kernel hides its weights, and a model may form the same weights twice. So a few rows of what they are made of are
compared: of queries, keys and mask, or of the weights themselves.
"""

from hashlib import blake2b

import torch
from torch import Tensor

from vitral.recording.calls import Call, ExplicitWeights, Scores

SAMPLED = 4  # rows that are compared


def fingerprint(call: Call) -> bytes | None:
    """A number that calls with the same weights share; None where weights say nothing of what they were made of, as
    where all queries are zero, or a mask leaves one key."""
    rows = call.rows
    if isinstance(rows, Scores):
        if not all(sample(one).any() for one in (rows.q, rows.k)):
            return None
        return digest(*rows.tensors, torch.tensor([[rows.scale]]))
    if not isinstance(rows, ExplicitWeights):
        return None
    weights = sample(rows.weights)
    least = torch.where(weights > 0, weights, torch.inf).amin(-1)
    return digest(rows.weights) if bool((least < weights.amax(-1)).any()) else None


def digest(*tensors: Tensor) -> bytes:
    """A number for the shapes and a few rows of tensors."""
    shapes = str([tuple(one.shape) for one in tensors]).encode()
    return blake2b(shapes + b"".join(sample(one).numpy().tobytes() for one in tensors)).digest()


def sample(x: Tensor) -> Tensor:
    """A few rows of a tensor, from its first to its last."""
    rows = sorted({(x.shape[-2] - 1) * place // (SAMPLED - 1) for place in range(SAMPLED)})
    return x.detach()[..., rows, :].to("cpu", torch.float32).contiguous()
