"""What the kernels load and store, counted in the interpreter: close to what they cannot do without.

The shapes are those of MiT-B0's stages with N scaled down (benchmarks/triton_traffic.py). Collected under
TRITON_INTERPRET=1 alone (conftest.py).
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.ops_cases import Stage, dropping_stages
from benchmarks.registry import read_result
from benchmarks.triton_traffic import CHIP, DTYPES, OPS, attention_runs, counting, measure
from egformer_fast.triton import modality_drop as drop
from egformer_fast.triton import modality_score as score
from egformer_fast.triton._attention_configs import config
from egformer_fast.triton._common import blocks_of, launch

LARGEST = {"modality_score": 1.02, "modality_drop": 1.05, "modality_attention": 1.1}


@pytest.fixture(autouse=True)
def _blocks_of_a_gpu():
    with blocks_of(CHIP):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("op", OPS)
def test_forward_moves_little_more_than_it_must(op, stage, dtype):
    tokens = 512 if op == "modality_attention" else 1024
    runs = OPS[op](dropping_stages(512)[stage], DTYPES[dtype], tokens)
    assert 1 <= measure(runs["forward"])["over_bound"] <= LARGEST[op]


@pytest.mark.parametrize("op", ["modality_drop", "modality_attention"])
def test_backward_moves_little_more_than_it_must(op):
    runs = OPS[op](dropping_stages(512)[2], torch.float32, 256)
    assert 1 <= measure(runs["backward"])["over_bound"] <= LARGEST[op]


def test_modalities_share_the_weights_of_the_score():
    """Four samples of four modalities at the last stage, where W1 weighs a quarter of a modality's tokens."""
    stage = Stage("mit_b0", 512, 3, 1, 1)
    x = torch.zeros(4, 4, stage.tokens, stage.channels)
    w1, b1, w2, b2 = (torch.zeros(s) for s in ((64, stage.channels), (64,), (64,), ()))
    with counting() as counts:
        score.modality_score(x, w1, b1, w2, b2, None)
    assert counts["_score", "w1", "read"] == 4 * w1.numel()
    assert counts["_pool", "x", "read"] == 4 * x.numel()


def test_absent_modalities_load_nothing():
    x = torch.zeros(2, 3, 40, 16)
    weights = [torch.zeros(s) for s in ((8, 16), (8,), (8,), ())]
    present = torch.tensor([[True, False, True], [False, False, True]])
    with counting() as counts:
        score.modality_score(x, *weights, present)
    assert counts["_pool", "x", "read"] == 4 * 3 * 40 * 16
    assert counts["_score", "rows", "read"] == 4 * 3 * 16


def test_dropped_and_padded_slots_load_no_tokens():
    x, scores = torch.zeros(2, 4, 40, 16), torch.tensor([[0.9, 0.8, 0.1, 0.2], [0.5, torch.nan, torch.nan, torch.nan]])
    with counting() as counts:
        outputs = drop.modality_drop(x, scores, 2, None, None, 0.0, False, True)
    assert outputs[2].tolist() == [[0, 1], [0, -1]]
    one = 4 * 40 * 16
    assert counts["_drop", "x", "read"] == 3 * one
    assert counts["_drop", "survivors", "written"] == 4 * one and counts["_drop", "fused", "written"] == 2 * one
    with counting() as counts:
        drop.modality_drop_backward(*outputs[:2], outputs[3], x, scores, *outputs[2:])
    assert counts["_drop_backward", "x", "read"] == counts["_drop_backward", "d_survivors", "read"] == 3 * one
    assert counts["_drop_backward", "d_x", "written"] == 8 * one


def test_padded_slots_of_attention_load_no_keys():
    stage = Stage("mit_b0", 512, 3, 1, 3)
    slots = torch.tensor([[0, 2, -1]])
    for way, run in attention_runs(stage, torch.float32, 64, slots).items():
        with counting() as counts:
            run.call()
        slot = 4 * stage.keys * stage.channels
        kernel = "_attend" if way == "forward" else "query_gradient"
        blocks = -(-64 // config(way, 4, 32)[0])
        assert counts[kernel, "k", "read"] == counts[kernel, "v", "read"] == 2 * slot * blocks
        if way == "backward":
            assert counts["key_gradients", "k", "read"] == counts["key_gradients", "v", "read"] == 2 * slot


def test_loads_beside_the_arguments_are_refused():
    x, sums = torch.zeros(1, 1, 8, 16), torch.zeros(1, 1, 1, 16)
    with counting(), pytest.raises(Exception, match="_pool: read bytes .* lie in none of its arguments"):
        launch(score._pool, 1, x, None, sums, 9, 16, 1, *x.stride(), M=1, SPLIT=512, ROWS=16, COLS=16)  # 9 tokens of 8


def test_the_committed_report_holds_the_bounds():
    rows = [row for row in read_result("triton_traffic")["rows"] if row["what"] == "forward"]
    assert {(row["op"], row["size"], row["stage"]) for row in rows} == {
        (op, size, stage) for op in OPS for size in (512, 1024) for stage in range(4)
    }
    for row in rows:
        assert 1 <= row["over_bound"] <= LARGEST[row["op"]], row
