"""The two flows of EGFormer: what goes through the encoder's four stages, and where the modalities meet.

"merged" (the default): they meet on the patch embeddings, before the first block, and one stream goes on.

    stream, index, weight = ModalMerge(stems, keep_1)                    score, drop, sum
    for stage i of 4:
        stream  = blocks_i(patch_embed_i(stream))                        (the stems are the first patch embedding)
        where keep_i > 0, i > 1, survivors go on beside it, through the patch embeddings alone:
            x, index, weight = MDM_i(patch_embed_i(x), score_i * weight, keep_i)
            stream          += proj(attention(q(stream), kv(pool(x)), log weight))

"separate": each modality goes through the blocks for itself, one reading of the paper.

    for stage i of 4:
        x                  = blocks_i(patch_embed_i(x))                  of the surviving modalities
        x, fused_i, weight = MDM_i(x, score_i * weight, keep_i)
        fused_i           += proj(attention(q(fused_i), kv(pool(x)), log weight))

Either gives the head four maps. A stage's weights are the next one's prior: evidence against a modality adds up (see
nn/fusion.py). Every scored stage leaves its choice in the Trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from egformer_fast.models.inputs import Stack
from egformer_fast.models.mit import STAGES, MixVisionTransformer, Size, tokens_to_map
from egformer_fast.models.trace import StageTrace, Trace
from egformer_fast.nn import Fused, ModalMerge

Scores = Sequence[Tensor] | None
FLOWS = ("merged", "separate")


class Slots(NamedTuple):
    """Modalities on their way: tokens (B, S, N, C); alive (B, S) bool; sensor (B, S) int64, who sits in a slot; prior
    (B, S), the weights of the last drop."""

    tokens: Tensor
    alive: Tensor
    sensor: Tensor
    prior: Tensor | None

    @classmethod
    def of(cls, stack: Stack) -> Slots:
        return cls(stack.tokens, stack.alive, stack.sensor.expand(stack.alive.shape), None)

    def given(self, scores: Scores, record: Trace) -> Tensor | None:
        """The scores to take in place of the model's at the stage that is recorded next, (B, S)."""
        if scores is None:
            return None
        return scores[len(record.stages)].to(self.tokens.dtype).gather(1, self.sensor.clamp_min(0)).nan_to_num(0.0)

    def after(self, fused: Fused, record: Trace) -> Slots:
        """What survived a drop; the choice is recorded."""
        kept = torch.where(fused.index >= 0, self.sensor.gather(1, fused.index.clamp_min(0)), -1)
        shown = torch.where(self.alive, self.sensor, -1)
        record.stages.append(StageTrace(fused.score, shown, kept, fused.weight))
        return Slots(fused.survivors, fused.index >= 0, kept, fused.weight)

    def embedded(self, encoder: MixVisionTransformer, stage: int, size: Size) -> tuple[Slots, Size]:
        """Through the patch embedding of a stage; size: (h, w) before it, and behind it."""
        flat, size = encoder.patch_embed(stage, tokens_to_map(self.tokens.flatten(0, 1), size))
        return self._replace(tokens=flat.unflatten(0, self.alive.shape)), size


def merged(
    encoder: MixVisionTransformer,
    merge: ModalMerge | None,
    beside: nn.ModuleList,
    stack: Stack,
    keep: Sequence[int],
    scores: Scores,
    record: Trace,
) -> list[Tensor]:
    """Four maps (B, dims[i], h_i, w_i). merge: None where there is one modality and nothing to choose (early fusion).
    beside: the ModalFusion of stages 2, 3, ... that can keep survivors beside the stream."""
    slots, size = Slots.of(stack), stack.size
    if merge is None:
        stream = slots.tokens[:, 0]
        record.stages.append(_only(slots))
    else:
        fused = merge(slots.tokens, size, slots.alive, keep[0], slots.given(scores, record), gather=keep[1] > 0)
        stream, slots = fused.fused, slots.after(fused, record)
    maps = []
    for stage in range(STAGES):
        before = size
        if stage > 0:
            stream, size = encoder.patch_embed(stage, tokens_to_map(stream, size))
        stream = encoder.blocks(stage, stream, size)
        if stage > 0 and keep[stage] > 0:
            slots, _ = slots.embedded(encoder, stage, before)
            score = slots.given(scores, record)
            module = beside[stage - 1]
            fused = module(slots.tokens, size, slots.alive, keep[stage], slots.prior, score, query=stream)
            stream, slots = fused.fused, slots.after(fused, record)
        maps.append(tokens_to_map(stream, size))
    return maps


def separate(
    encoder: MixVisionTransformer,
    fusion: nn.ModuleList,
    stack: Stack,
    keep: Sequence[int],
    scores: Scores,
    record: Trace,
    compact: bool,
) -> list[Tensor]:
    """Four maps (B, dims[i], h_i, w_i). compact: cut slots that are padded in every sample (one host read a stage)."""
    slots, size = Slots.of(stack), stack.size
    maps = []
    for stage, module in enumerate(fusion):
        if stage > 0:
            slots, size = slots.embedded(encoder, stage, size)
        x = encoder.blocks(stage, slots.tokens.flatten(0, 1), size).unflatten(0, slots.alive.shape)
        fused = module(x, size, slots.alive, keep[stage], slots.prior, slots.given(scores, record))
        maps.append(tokens_to_map(fused.fused, size))
        slots = slots.after(_compacted(fused) if compact else fused, record)
    return maps


def _compacted(fused: Fused) -> Fused:
    used = max([1, *(fused.index >= 0).sum(1).tolist()])
    return fused._replace(
        survivors=fused.survivors[:, :used], index=fused.index[:, :used], weight=fused.weight[:, :used]
    )


def _only(slots: Slots) -> StageTrace:
    """The choice among one modality: score and weight 1 where it is alive."""
    weight = slots.alive.to(slots.tokens.dtype)
    sensor = torch.where(slots.alive, slots.sensor, -1)
    return StageTrace(weight, sensor, sensor, weight)
