"""The rows of attention that an exported model gave, as a recording that explanation methods read.

Axes:  b images   l layers   h heads   n tokens
"""

import numpy as np
import torch
from torch import Tensor

from vitral.base.errors import StoreError, WatchError
from vitral.recording.handed_out import HandedOut, handed_out_layer
from vitral.recording.intercept import TOLERANCE
from vitral.recording.layers import Recording
from vitral.recording.token_roles import TokenRoles
from vitral.store.artifact_maps import ArtifactMaps, LayerRows
from vitral.store.runtimes.session import Precision

# In int8 the layers around attention are rounded, and what a runtime fuses with them.
MOST: dict[Precision, float] = {
    "fp32": TOLERANCE[torch.float32],
    "bf16": TOLERANCE[torch.bfloat16],
    "int8": TOLERANCE[torch.bfloat16],
}


def handed_out(
    maps: ArtifactMaps, logits: Tensor, outputs: dict[str, np.ndarray], precision: Precision = "fp32"
) -> HandedOut:
    """What a run gave, in the precision in which the file computes; `outputs` are the arrays that `maps` names.

    Raises `StoreError` for outputs of other shapes than `maps` states, `WatchError` for rows that, multiplied with the
    values, are not what the attention returned.
    """
    residuals = outputs[maps.residual]
    why = (
        "An exported model gives one row of attention per layer (here that of "
        f"{', then '.join(dict.fromkeys(layer.reader for layer in maps.layers))}). "
        "Use the model that it was exported from."
    )
    layers = []
    for number, layer in enumerate(maps.layers):
        rows, count = outputs[layer.output], len(maps.outputs[layer.output])
        expected = (len(logits), count, layer.heads, layer.num_tokens)
        if rows.shape != expected or residuals.shape != (len(logits), len(maps.layers)):
            raise StoreError(
                f"The file gives {layer.output} of shape {rows.shape}, and artifact.json states {expected}. Export the "
                "model again."
            )
        residual = float(residuals[:, number].max())
        if not residual <= MOST[precision]:  # also refuses what is not a number
            raise WatchError(
                f"The attention of {layer.name} could not be verified: rows · v differs from the output of the "
                f"attention in the file by {residual:.1e} of its largest value (at most {MOST[precision]:.0e} "
                "is accepted). Vitral shows no map, since it would be wrong. Export the model again."
            )
        row = torch.from_numpy(np.ascontiguousarray(rows[:, layer.index]))
        queries = (layer.queries, layer.num_queries, layer.is_cross, layer.windows)
        layers.append(handed_out_layer(layer.name, row, residual, roles_of(layer), *queries, why))
    return HandedOut(logits, Recording(layers, only_rows=why), tuple(maps.read_from), maps.among, maps.note)


def roles_of(layer: LayerRows) -> TokenRoles:
    """What each token of a layer is."""
    number = layer.grid[0] * layer.grid[1]
    return TokenRoles(tuple(layer.prefix), number, layer.grid, "stated by the exported model", tuple(layer.order))
