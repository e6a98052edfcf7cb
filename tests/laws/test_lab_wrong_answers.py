"""Wrong answers that were written before the named mistakes, and apart from them: each gets the property that fails."""

import shutil
import sys
from pathlib import Path

import pytest

from vitral.lab import checking
from vitral.lab.reading import read
from vitral.lab.report import Report
from vitral.lab.start import needed, solution_text
from vitral.lab.station import stations
from vitral.store.code import run_file

STATIONS = stations()
HOME = Path(__file__).parents[1] / "wrong_answers"
# The stage at which each is caught, and a part of what is said of it.
CAUGHT = {
    "block_in_place_stream": ("contract", "which others still use"),
    "block_mlp_reads_branch": ("properties", "adds mlp(norm2(x)) to x"),
    "block_shared_norm": ("contract", "there is no norm2.weight"),
    "embedding_detached_kernel": ("contract", "no gradient comes back to"),
    "embedding_kernel_order": ("properties", "picks one pixel of every patch"),
    "embedding_map_by_columns": ("properties", "The convolution and the matrix product"),
    "fast_bfloat_inside": ("properties", "Between two tokens"),
    "fast_flash_layout": ("properties", "Each head attends as if it were the only one"),
    "fast_squeeze_all": ("contract", "gave shape (512,)"),
    "feed_forward_constant_statistics": ("comparison", "its gradient by"),
    "feed_forward_dropout_left_on": ("contract", "gave something else when it was asked again"),
    "feed_forward_eps_outside_root": ("comparison", "LayerNorm"),
    "head_einsum_index": ("properties", "the mean of the values by the weights"),
    "head_exp_overflow": ("contract", "gave NaN"),
    "head_softmax_third_axis": ("properties", "add up to 1"),
    "heads_folded_into_batch": ("properties", "Each image of a batch is attended to as if it were alone"),
    "heads_scaled_twice": ("comparison", "Attention"),
    "heads_strided_channels": ("properties", "Another query in the first head"),
    "maps_cls_numpy": ("contract", "a NumPy array"),
    "maps_heads_averaged_last": ("properties", "Later blocks read what earlier ones mixed"),
    "maps_occlusion_own_answer": ("properties", "what is lost is the answer's probability"),
    "patchify_float_cast": ("contract", "gave torch.float32 for inputs of torch.float64"),
    "patchify_stack_mixes_batch": ("properties", "Each image of a batch is cut as if it were alone"),
    "patchify_unfold_order": ("properties", "channel by channel, each row by row"),
    "tokens_float_buffer": ("properties", "the patches come out as they were"),
    "tokens_in_place": ("contract", "which others still use"),
    "tokens_positions_shifted": ("properties", "one row for each place"),
    "training_decay_by_name": ("comparison", "decayed"),
    "training_last_step_zero": ("properties", "A third of the way down"),
    "training_zero_grad_last": ("properties", "the rate times the gradient"),
    "versus_edges_wrap": ("properties", "zero at the"),
    "versus_kernel_flipped": ("properties", "gives each token its neighbour on the right"),
    "versus_reach_power": ("properties", "Blocks add up"),
    "vit_one_block_repeated": ("contract", "there is no blocks.1"),
    "vit_positions_as_buffer": ("contract", "pos_embed is a buffer, which is not learned"),
    "vit_ratio_truncated": ("contract", "blocks.0.mlp.fc1.weight is of shape (8, 8)"),
}


def placed(name, folder):
    """The files that one builds on, right."""
    for other in needed(name):
        (folder / f"{other}.py").write_text(solution_text(other))
        placed(other, folder)


def test_all_are_here_and_enough():
    assert {path.stem for path in HOME.glob("*.py")} == set(CAUGHT)
    assert len(CAUGHT) >= 30


@pytest.mark.parametrize("answer", CAUGHT)
def test_a_wrong_answer_gets_the_property_that_fails(answer, tmp_path, monkeypatch):
    name = max((own for own in STATIONS if answer.startswith(f"{own}_")), key=len)
    placed(name, tmp_path)
    shutil.copy(HOME / f"{answer}.py", tmp_path / f"{name}.py")
    monkeypatch.setattr(checking, "transplanted", lambda station, answer: Report())
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for other in STATIONS:
        monkeypatch.delitem(sys.modules, other, raising=False)
    assert read(name, tmp_path / f"{name}.py") is None
    report = checking.check(STATIONS[name], run_file(tmp_path / f"{name}.py"))
    stage, said = CAUGHT[answer]
    assert report.failed == stage and said in report.said
    for other in STATIONS:
        sys.modules.pop(other, None)
