"""Objective: what a batch costs, with all modalities, with a part of them, and what the scores should say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from egformer_fast.models import egformer_b0
from egformer_fast.train.config import TrainConfig
from egformer_fast.train.losses import SegmentationLoss
from egformer_fast.train.objective import Objective, distillation, draw_parts
from egformer_fast.train.sampling import Labelled

NAMES = ["rgb", "depth", "event"]


def frames(batch: int = 4, degraded: bool = False) -> Labelled:
    inputs = {name: torch.randn(batch, 3, 32, 32) for name in NAMES}
    marks = torch.zeros(batch, 3, dtype=torch.bool)
    marks[:, 1] = degraded
    worse = {**inputs, "depth": 0.01 * inputs["depth"]} if degraded else inputs
    label = torch.randint(0, 3, (batch, 32, 32))
    return Labelled(inputs, torch.ones(batch, 3, dtype=torch.bool), label, worse, marks)


def model(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return egformer_b0(3, NAMES, drop_path=0.0, dropout=0.0, **options).eval()  # type: ignore[arg-type]


def objective(net: torch.nn.Module, **options: float) -> Objective:
    config = TrainConfig(**options)  # type: ignore[arg-type]
    return Objective(config, SegmentationLoss(), net, 255)


def loss_of(net: torch.nn.Module, batch: Labelled, seed: int = 0, **options: float) -> torch.Tensor:
    made = objective(net, **options)
    return made(net, batch, net.keep, np.random.default_rng(seed))[0]


def test_without_parts_and_scores_it_is_the_loss_of_the_segmentation() -> None:
    net, batch = model(), frames()
    loss = loss_of(net, batch, subsets=0.0, score_loss=0.0)
    torch.testing.assert_close(loss, F.cross_entropy(net(batch.inputs), batch.label))


def test_parts_are_seen_again_and_told_by_the_whole() -> None:
    net, batch = model(), frames()
    part = draw_parts(batch.present[:2], np.random.default_rng(0))
    full = net(batch.inputs)
    again = net({name: image[:2] for name, image in batch.inputs.items()}, part)
    less = F.cross_entropy(again, batch.label[:2])
    told = F.kl_div(again.log_softmax(1), full[:2].log_softmax(1), log_target=True, reduction="none").sum(1).mean()
    wanted = F.cross_entropy(full, batch.label) + 0.5 * (0.7 * less + 0.3 * told)
    torch.testing.assert_close(loss_of(net, batch, subsets=0.5, distil=0.3, score_loss=0.0), wanted)


def test_the_teacher_is_not_taught() -> None:
    teacher, student = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    labelled = torch.ones(2, 4, 4, dtype=torch.bool)
    labelled[0] = False
    distillation(teacher, student, labelled).backward()
    assert teacher.grad is None
    assert (student.grad[0] == 0).all() and (student.grad[1] != 0).any()


def test_the_size_of_a_part_is_drawn_evenly() -> None:
    parts = draw_parts(torch.ones(3000, 4, dtype=torch.bool), np.random.default_rng(0))
    sizes = Counter(parts.sum(1).tolist())
    assert set(sizes) == {1, 2, 3}
    assert all(count / 3000 == pytest.approx(1 / 3, abs=0.03) for count in sizes.values())
    singles = parts[parts.sum(1) == 1].sum(0) / sizes[1]
    assert all(share == pytest.approx(1 / 4, abs=0.05) for share in singles.tolist())


def test_a_part_has_what_is_there_and_never_nothing() -> None:
    present = torch.tensor([[True, False, False], [False, True, True], [False] * 3])
    for seed in range(20):
        part = draw_parts(present, np.random.default_rng(seed))
        assert part[0].tolist() == [True, False, False]
        assert part[1].sum() == 1 and not part[1, 0]
        assert not part[2].any()


def test_a_broken_modality_is_never_all_of_a_part() -> None:
    net, batch = model(), frames()
    batch.inputs["rgb"][:, 0, 3, 3] = torch.nan
    batch.inputs["depth"][:, 0, 3, 3] = torch.inf
    for seed in range(8):
        assert loss_of(net, batch, seed, subsets=1.0).isfinite()


def test_scores_learn_what_is_degraded() -> None:
    """In new frames each time; the frames that the segmentation sees are not the degraded ones."""
    net = model().train()
    made = objective(net, score_loss=1.0, subsets=0.0)
    optimizer = torch.optim.AdamW([*net.parameters(), *made.parameters()], lr=3e-3)
    for step in range(40):
        batch = frames(degraded=True)
        loss, _, values = made(net, batch, net.keep, np.random.default_rng(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    score = net.eval().first_scores(batch.worse)[0]
    assert (score[:, 1] < 0.4).all() and (score[:, [0, 2]] > 0.6).all(), score
    clean = net.first_scores(batch.inputs)[0]
    assert (clean[:, 1] > 0.6).all(), clean
    assert set(values) == {"score_loss"}


def test_what_scores_are_taught_changes_no_patch_embedding() -> None:
    net, batch = model(), frames(degraded=True)
    made = objective(net, score_loss=1.0, subsets=0.0)
    first = net.first_scores(batch.worse)
    made.scores(*first, batch.label, batch.degraded)[0].backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in net.named_parameters() if name.startswith("merge.score.")}
    _, trace = net(batch.worse, trace=True)
    torch.testing.assert_close(first[0], trace.score_table(0))


def test_frames_whose_failures_are_not_known_teach_no_score() -> None:
    net, batch = model(), frames()._replace(worse=None, degraded=None)
    torch.testing.assert_close(loss_of(net, batch, score_loss=1.0), loss_of(net, batch, score_loss=0.0))


def test_early_fusion_has_no_scores_to_teach() -> None:
    assert objective(model(early_fusion=True), score_loss=1.0).scores is None
    assert objective(model(), score_loss=0.0).scores is None


def test_its_state_is_the_head_alone() -> None:
    """The model has a state of its own, and resuming needs both."""
    net = model()
    first, second = objective(net, score_loss=1.0), objective(net, score_loss=1.0)
    assert all(name.startswith("scores.") for name in first.state_dict())
    second.load_state_dict(first.state_dict())
    batch = frames(degraded=True)
    seen = net.first_scores(batch.worse)
    wanted = first.scores(*seen, batch.label, batch.degraded)[0]
    torch.testing.assert_close(second.scores(*seen, batch.label, batch.degraded)[0], wanted)
