"""ScoreLoss: targets of the scores, and what gets no say in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from egformer_fast.models.inputs import Stack
from egformer_fast.train.score_loss import DEGRADED_WORTH, ScoreLoss, targets

SIZE = (8, 8)
LABEL = torch.randint(0, 3, (2, 32, 32), generator=torch.Generator().manual_seed(0))
NONE = torch.zeros(2, 3, dtype=torch.bool)
ALL = ~NONE


def stack(alive: Tensor = ALL) -> Stack:
    return Stack(torch.randn(2, 3, 64, 8), alive, torch.arange(3), SIZE, (32, 32))


def module() -> ScoreLoss:
    torch.manual_seed(0)
    return ScoreLoss(8, 3, 255)


def test_targets_by_hand() -> None:
    alone = torch.tensor([[1.0, 1.5, 0.5], [2.0, 1.0, 9.0]])
    scored = torch.tensor([[True, True, True], [True, True, False]])
    degraded = torch.tensor([[True, False, False], [False, True, True]])
    share = DEGRADED_WORTH
    e = torch.tensor([-0.5, -1.0]).exp().tolist()
    wanted = torch.tensor([[share * e[0], e[1], 1.0], [e[1], share, 0.0]])
    torch.testing.assert_close(targets(alone, scored, degraded), wanted)


def test_scores_at_their_targets_cost_least() -> None:
    loss, seen, degraded = module(), stack(), torch.tensor([[True, False, False], [False, False, True]])
    with torch.no_grad():
        target = targets(loss.alone(seen, LABEL), ALL, degraded)
        own = loss(target, seen, LABEL, degraded)[1]
        for wrong in (target + 0.2, target - 0.2):
            assert loss(wrong.clamp(0.01, 0.99), seen, LABEL, degraded)[1] > own


def test_what_was_not_scored_costs_nothing_and_gets_no_gradient() -> None:
    alive = torch.tensor([[True, False, True], [True, True, True]])
    score = torch.full((2, 3), 0.4)
    score[1, 2] = torch.nan
    score.requires_grad_()
    total, own = module()(score, stack(alive), LABEL, NONE)
    total.backward()
    assert total.isfinite() and own.isfinite()
    assert score.grad[0, 1] == 0 and score.grad[1, 2] == 0
    assert (score.grad[[0, 0, 1, 1], [0, 2, 0, 1]] != 0).all()


def test_the_head_learns_from_clean_modalities_alone() -> None:
    loss, seen = module(), stack()
    seen.tokens.requires_grad_()
    degraded = torch.tensor([[True, False, False], [True, False, False]])
    loss(torch.full((2, 3), 0.5), seen, LABEL, degraded)[0].backward()
    assert (seen.tokens.grad[:, 0] == 0).all() and (seen.tokens.grad[:, 1:] != 0).any()


@pytest.mark.parametrize("unlabelled", [0, slice(None)], ids=["one frame", "all"])
def test_a_frame_without_labels_is_no_reason_for_nan(unlabelled: object) -> None:
    label = LABEL.clone()
    label[unlabelled] = 255
    total, own = module()(torch.full((2, 3), 0.5), stack(), label, NONE)
    assert total.isfinite() and own.isfinite()
