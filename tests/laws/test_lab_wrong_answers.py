"""Wrong answers that were written before the named mistakes and without them: each gets the right message.

A file defines what went wrong; what it leaves out is as in the station's solution, below which it is put.
"""

import sys
from pathlib import Path

import pytest

from vitral.lab import stages
from vitral.lab.source_check import check_source
from vitral.lab.start_file import find_required, read_solution
from vitral.lab.station import load_stations
from vitral.store.code import run_file

STATIONS = load_stations()
HOME = Path(__file__).parents[1] / "wrong_answers"
# The stage at which each fails, and a part of the message.
CAUGHT = {
    "block_in_place_stream": ("contract", "which other code still uses"),
    "block_mlp_reads_branch": ("properties", "adds mlp(norm2(x)) to x"),
    "block_shared_norm": ("contract", "there is no norm2.weight"),
    "embedding_detached_kernel": ("contract", "no gradient reaches"),
    "embedding_kernel_order": ("properties", "selects one pixel of every patch"),
    "embedding_map_by_columns": ("properties", "the convolution and the matrix product"),
    "fast_bfloat_inside": ("properties", "With two tokens"),
    "fast_flash_layout": ("properties", "Each head attends as if it were the only one"),
    "fast_squeeze_all": ("contract", "returns shape (512,)"),
    "feed_forward_constant_statistics": ("comparison", "its gradient with respect to"),
    "feed_forward_dropout_left_on": ("contract", "returns something else when it is called again"),
    "feed_forward_eps_outside_root": ("comparison", "LayerNorm"),
    "head_einsum_index": ("properties", "the mean of the values, weighted by the weights"),
    "head_exp_overflow": ("contract", "returns NaN"),
    "head_softmax_third_axis": ("properties", "add up to 1"),
    "heads_folded_into_batch": ("properties", "The result for each image is the same as if it were alone"),
    "heads_scaled_twice": ("comparison", "Attention"),
    "heads_strided_channels": ("properties", "Another query in the first head"),
    "maps_cls_numpy": ("contract", "a NumPy array"),
    "maps_heads_averaged_last": ("properties", "Later blocks mix what earlier ones mixed"),
    "maps_occlusion_own_answer": ("properties", "the result is the probability of the predicted class"),
    "patchify_float_cast": ("contract", "returns torch.float32 for inputs of torch.float64"),
    "patchify_stack_mixes_batch": ("properties", "Each image of a batch is cut as if it were alone"),
    "patchify_unfold_order": ("properties", "channel by channel, each row by row"),
    "tokens_float_buffer": ("properties", "the patches come out unchanged"),
    "tokens_in_place": ("contract", "which other code still uses"),
    "tokens_positions_shifted": ("properties", "one row for each place"),
    "training_decay_by_name": ("comparison", "decayed"),
    "training_last_step_zero": ("properties", "A third of the way down"),
    "training_zero_grad_last": ("properties", "-(rate x gradient)"),
    "versus_edges_wrap": ("properties", "zero at the"),
    "versus_kernel_flipped": ("properties", "returns each token's right neighbour"),
    "versus_reach_power": ("properties", "Blocks add up"),
    "vit_one_block_repeated": ("contract", "there is no blocks.1"),
    "vit_positions_as_buffer": ("contract", "pos_embed is a buffer, which is not trained"),
    "vit_ratio_truncated": ("contract", "blocks.0.mlp.fc1.weight has shape (8, 8)"),
}


def write_required(name, folder):
    """Write the right answers of the stations that one imports."""
    for other in find_required(name):
        (folder / f"{other}.py").write_text(read_solution(other))
        write_required(other, folder)


def test_all_are_here_and_enough():
    assert {path.stem for path in HOME.glob("*.py")} == set(CAUGHT)
    assert len(CAUGHT) >= 30


@pytest.mark.parametrize("answer", CAUGHT)
def test_a_wrong_answer_gets_the_property_that_fails(answer, tmp_path, monkeypatch, without_integration):
    name = max((own for own in STATIONS if answer.startswith(f"{own}_")), key=len)
    write_required(name, tmp_path)
    path = tmp_path / f"{name}.py"
    path.write_text(f"{read_solution(name)}\n{(HOME / f'{answer}.py').read_text()}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for other in STATIONS:
        monkeypatch.delitem(sys.modules, other, raising=False)
    assert check_source(name, path) is None
    report = stages.check_answer(STATIONS[name], run_file(path))
    stage, message = CAUGHT[answer]
    assert report.failed == stage and message in report.message
    for other in STATIONS:
        sys.modules.pop(other, None)
