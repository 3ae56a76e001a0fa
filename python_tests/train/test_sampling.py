"""Batches, draws and seeds are functions of the seed and a count: split, restart or spread them and nothing changes."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egformer_fast.train.sampling import BatchStream, TrainingFrames, draw_keep, keep_rng, step_seed


@given(length=st.integers(4, 40), batch=st.integers(1, 4), start=st.integers(0, 60), seed=st.integers(0, 3))
def test_a_stream_from_the_middle_is_the_rest_of_the_stream(length: int, batch: int, start: int, seed: int) -> None:
    whole = list(islice(BatchStream(length, batch, seed), start + 10))
    assert list(islice(BatchStream(length, batch, seed, start), 10)) == whole[start:]


def test_an_epoch_is_a_permutation_and_the_next_one_another() -> None:
    batches = list(islice(BatchStream(13, 4, seed=5), 9))
    epochs = [[index for batch in batches for epoch, index in batch if epoch == number] for number in range(3)]
    assert all(len(set(epoch)) == len(epoch) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    left_out = [set(range(13)) - set(epoch) for epoch in epochs]
    assert left_out[0] != left_out[1]


def test_ranks_share_out_the_batches_of_one_process() -> None:
    together = islice(BatchStream(25, 6, seed=1), 9)
    ranks = [islice(BatchStream(25, 3, seed=1, rank=rank, world=2), 9) for rank in range(2)]
    for batch, first, second in zip(together, *ranks, strict=True):
        assert batch == first + second


def test_fewer_frames_than_a_batch() -> None:
    with pytest.raises(ValueError, match="7 frames, wanted at least one batch of 8"):
        BatchStream(7, 4, seed=0, world=2)


class Recorder:
    def __len__(self) -> int:
        return 3

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, float]:
        return {"index": index, "draw": rng.random()}


def test_a_frame_draws_from_seed_epoch_and_index_alone() -> None:
    frames = TrainingFrames(Recorder(), seed=1)
    assert frames[4, 2] == {"index": 2, "draw": np.random.default_rng((1, 4, 2)).random()} == frames[4, 2]
    draws = {
        TrainingFrames(Recorder(), seed)[epoch, index]["draw"]
        for seed in (0, 1)
        for epoch in (0, 1)
        for index in (0, 1)
    }
    assert len(draws) == 8


@given(
    keep=st.lists(st.integers(1, 6), min_size=4, max_size=4).map(lambda keep: tuple(sorted(keep, reverse=True))),
    more=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_a_wider_keep_is_wider_and_never_increases(keep: tuple[int, ...], more: int, seed: int) -> None:
    slots = keep[0] + more
    drawn = draw_keep(keep, (slots,) * 4, np.random.default_rng(seed), wider=1.0)
    assert all(low <= kept <= slots for low, kept in zip(keep, drawn, strict=True))
    assert list(drawn) == sorted(drawn, reverse=True)


def test_keep_larger_than_the_slots_keeps_all() -> None:
    assert draw_keep((4, 3, 1, 1), (1, 1, 1, 1), np.random.default_rng(0), wider=1.0) == (1, 1, 1, 1)


def test_a_stage_that_keeps_nothing_apart_draws_nothing() -> None:
    draws = {draw_keep((2, 1, 0, 0), (4, 4, 0, 0), keep_rng(0, step), wider=1.0) for step in range(200)}
    assert {keep[0] for keep in draws} == {2, 3, 4} and {keep[1] for keep in draws} == {1, 2, 3, 4}
    assert {keep[2:] for keep in draws} == {(0, 0)}


def test_half_of_the_steps_use_the_configured_keep_and_the_others_spread_evenly() -> None:
    draws = [draw_keep((3, 2, 1, 1), (4, 4, 4, 4), keep_rng(0, step)) for step in range(4000)]
    # (3, 2, 1, 1) is also drawn as a "wider" one, with probability 1/2 (3 of 3, 4) · 1/2 (2 of 2, 3) · 1/2 (1 of 1, 2).
    assert Counter(draws)[3, 2, 1, 1] / 4000 == pytest.approx(0.5 + 0.5 / 8, abs=0.03)
    wider = [draw_keep((3, 2, 1, 1), (4, 4, 4, 4), keep_rng(1, step), wider=1.0) for step in range(4000)]
    assert Counter(drawn[0] for drawn in wider)[3] / 4000 == pytest.approx(1 / 2, abs=0.03)
    after_four = Counter(drawn[1] for drawn in wider if drawn[0] == 4)
    assert set(after_four) == {2, 3, 4}
    assert min(after_four.values()) / sum(after_four.values()) == pytest.approx(1 / 3, abs=0.04)
    assert {draw_keep((3, 2, 1, 1), (4, 4, 4, 4), keep_rng(2, step), wider=0.0) for step in range(50)} == {(3, 2, 1, 1)}


def test_step_seeds_differ_by_seed_step_and_rank_and_fit_torch() -> None:
    seeds = [step_seed(seed, step, rank) for seed in range(4) for step in range(50) for rank in range(4)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert step_seed(3, 7, 1) == step_seed(3, 7, 1)
