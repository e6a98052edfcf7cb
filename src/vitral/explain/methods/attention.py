"""`attention`: what one token attends to, layer by layer and head by head (Dosovitskiy et al. 2021, §4.5, for CLS).

    G · A[query, patch] / Σ over patches of A[query, ·]        with G patches: 1 where a patch gets as much as any other

Axes:  b images   l layers   h heads   n tokens
"""

from collections.abc import Sequence

import torch

from vitral.explain.flow import further_use_note
from vitral.explain.method import PatchMap, check_shares, method, padding_note
from vitral.explain.observation import Observation, Target
from vitral.explain.readout import Readout, check_beside, reader_name, readers_name, readers_of_each, readout_in
from vitral.explain.token_gradients import layers_read_side_by_side
from vitral.recording.indices import select
from vitral.recording.layers import comparable_layers
from vitral.recording.queries import Query, check_query, query_name, query_row_and_padding


@method(needs=["attention"])
def attention(
    observation: Observation,
    target: Target = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    query: Query = None,
) -> PatchMap:
    """The weights of one query over the patches, as multiples of uniform attention.

    `target` is ignored, since attention knows no class. `query` is a patch's row and column or a token's index; by
    default the tokens from which the prediction is read, as measured (`explain.readout`): CLS, the mean of the patches
    or of all tokens, or the query of an attention pool. Attention within windows is put where the windows stand. Layers
    with different grids or heads do not fit one figure: `layers` must select comparable ones; by default the last ones.

    Raises `UsageError` for a layer, head or token that does not exist, `WatchError` without verified attention.
    """
    query = check_query(query)
    recording, read_from = observation.attention, observation.read_from if query is None else Readout()
    shown, note = comparable_layers(recording, layers)
    readouts = [
        readout_in(layer, recording.of_answer, read_from.tokens, read_from.among) if query is None else ()
        for layer in shown
    ]
    if query is None:
        read = [recording.layers[number] for number in read_from.beside]
        note = read_from.note + check_beside(recording, read, shown, read_from.among) + note
    some_heads = select(heads, shown[0].num_heads, "head")
    of_each = [readers_of_each(layer, readout, read_from) for layer, readout in zip(shown, readouts)]
    found = [query_row_and_padding(layer, query, *read) for layer, read in zip(shown, zip(readouts, of_each))]
    rows, padding = zip(*((row[:, some_heads], on_padding[:, some_heads]) for row, on_padding in found))
    roles = shown[0].tokens
    values, on_padding = torch.stack(rows, dim=1).float(), torch.stack(padding, dim=1).float()
    for layer, row in zip(shown, rows):
        check_shares(row, layer.name)
    reader = reader_name(shown, readouts) if query is None else query_name(shown[0], query)
    if marked := [each for each in of_each if each is not None]:
        reader = readers_name(marked[-1])
    # Of queries that are no tokens it is not known which are read; a pool's single query is.
    are_read = all(read or layer.queries_are_keys or layer.num_queries == 1 for layer, read in zip(shown, readouts))
    are_read = are_read and not any(layer in recording.not_of_answer for layer in shown)
    several = layers_read_side_by_side(recording) if read_from.beside else []
    are_read = are_read and (shown[-1] not in several or recording.layers.index(shown[-1]) in read_from.beside)
    return PatchMap(
        roles.patches(values),
        roles.grid,
        f"This map shows where {reader} attends, not what the prediction depends on; it is the same for every class."
        + note
        + padding_note(float(on_padding.mean(dim=2).max()))
        + further_use_note(shown),
        layers=tuple(map(recording.name_of, shown)),
        heads=tuple(some_heads),
        prefix_mass=roles.others(values).sum(dim=-1) + on_padding,
        residual=max(layer.residual for layer in shown),
        reader=reader,
        reader_is_readout=are_read and (reader == "CLS" or query is None),
        prefix="CLS" if roles.prefix == ("cls",) else "not on patches" if roles.prefix or on_padding.any() else "",
        why_zero="None of this attention is on patches.",
    )
