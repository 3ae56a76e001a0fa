"""ScoreLoss: targets of the scores, and what gets no say in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from egformer_fast.models import StageTrace
from egformer_fast.train.score_loss import ScoreLoss

SIZE = (8, 8)


def stage(score: Tensor, present: Tensor | None = None) -> StageTrace:
    batch, slots = score.shape
    sensor = torch.arange(slots).expand(batch, slots)
    sensor = sensor if present is None else torch.where(present, sensor, -1)
    return StageTrace(score, sensor, sensor, torch.ones(batch, slots), torch.randn(batch, slots, 64, 8), SIZE)


def module() -> ScoreLoss:
    torch.manual_seed(0)
    return ScoreLoss(8, 3, 255)


LABEL = torch.randint(0, 3, (2, 32, 32), generator=torch.Generator().manual_seed(0))


def test_scores_at_their_targets_cost_least() -> None:
    """A degraded modality's target is 0; the best clean one's is 1, another's less by how much worse it does."""
    loss, degraded = module(), torch.tensor([[True, False, False], [False, False, True]])
    start = stage(torch.full((2, 3), 0.5))
    with torch.no_grad():
        alone = loss._alone(start.tokens, SIZE, LABEL)
    best = alone.masked_fill(degraded, torch.inf).amin(1, keepdim=True)
    target = (best - alone).exp().masked_fill(degraded, 0.0)
    assert (target.amax(1) == 1).all() and target[0, 0] == target[1, 2] == 0
    score = target.clone().requires_grad_()
    own = loss(start.__class__(**{**start.__dict__, "score": score}), LABEL, degraded)[1]
    for wrong in (target + 0.2, target - 0.2):
        other = stage(wrong.clamp(0.01, 0.99))
        assert loss(other.__class__(**{**start.__dict__, "score": other.score}), LABEL, degraded)[1] > own


def test_what_was_not_scored_costs_nothing_and_gets_no_gradient() -> None:
    present = torch.tensor([[True, False, True], [True, True, True]])
    score = torch.full((2, 3), 0.4)
    score[1, 2] = torch.nan
    score.requires_grad_()
    total, own = module()(stage(score, present), LABEL, torch.zeros(2, 3, dtype=torch.bool))
    total.backward()
    assert total.isfinite() and own.isfinite()
    assert score.grad[0, 1] == 0 and score.grad[1, 2] == 0
    assert (score.grad[[0, 0, 1, 1], [0, 2, 0, 1]] != 0).all()


def test_the_head_learns_from_clean_modalities_alone() -> None:
    loss, traced = module(), stage(torch.full((2, 3), 0.5))
    traced.tokens.requires_grad_()
    degraded = torch.tensor([[True, False, False], [True, False, False]])
    loss(traced, LABEL, degraded)[0].backward()
    assert (traced.tokens.grad[:, 0] == 0).all() and (traced.tokens.grad[:, 1:] != 0).any()


@pytest.mark.parametrize("unlabelled", [0, slice(None)], ids=["one frame", "all"])
def test_a_frame_without_labels_is_no_reason_for_nan(unlabelled: object) -> None:
    label = LABEL.clone()
    label[unlabelled] = 255
    total, own = module()(stage(torch.full((2, 3), 0.5)), label, torch.zeros(2, 3, dtype=torch.bool))
    assert total.isfinite() and own.isfinite()
