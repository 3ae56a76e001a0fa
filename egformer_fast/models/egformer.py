"""EGFormer: any number of sensors, scored, the least informative ones dropped, the rest segmented as one.

    tokens, alive = stems(inputs)                       a patch embedding a sensor; missing and broken ones marked
    four maps     = flow(tokens, alive)                 "merged" or "separate", see flow.py
    logits        = all-MLP head over the four maps, upsampled to (H, W)

arXiv 2505.14014 on the Mix Transformer of SegFormer (arXiv 2105.15203). With one sensor it is SegFormer, to the bit of
its arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egformer_fast.models import saving
from egformer_fast.models.flow import FLOWS, Scores, merged, separate
from egformer_fast.models.head import AllMLPHead
from egformer_fast.models.inputs import SensorInputs, Stack
from egformer_fast.models.keep import checked_keep
from egformer_fast.models.mit import MIT_CONFIGS, STAGES, MixVisionTransformer
from egformer_fast.models.resize import resize
from egformer_fast.models.trace import Trace
from egformer_fast.nn import ModalDropping, ModalFusion, ModalMerge

MERGED_THRESHOLD = 0.3


class EGFormer(nn.Module):
    """Any-sensor semantic segmentation.

    Args:
        backbone: "mit_b0" .. "mit_b5".
        num_classes: number of classes.
        modalities: names, or name -> channels (a list of names: three channels each).
        keep: modalities that each of the four stages keeps, default `default_keep`. In "merged" keep[0] of them meet in
            the stream and keep[1] to keep[3], which may be 0, survive beside it; in "separate" all are at least 1, and
            (M, M, M, M) drops none.
        threshold: also drop what scores below this share of the best (see nn.ModalDropping); default 0.3 in "merged", 0
            in "separate".
        rank, gumbel: see nn.ModalDropping.
        head_dim: width of the head; default 256 (B0, B1) or 768, as SegFormer.
        drop_path, dropout: rates of stochastic depth and of the head's dropout in training.
        early_fusion: stack all channels into one sensor: the baseline that EGFormer is compared with. In "merged" it is
            SegFormer on all channels.
        flow: "merged" or "separate", see models/flow.py.

    Attributes:
        validate: refuse (in eager mode) a frame that has no usable sensor; default True.
        compact: in eager evaluation of "separate", cut the slots that are padded in every sample of the batch, so that
            a threshold or missing sensors save time; costs one host read a stage; default False.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        modalities: Sequence[str] | Mapping[str, int],
        keep: Sequence[int] | None = None,
        threshold: float | None = None,
        rank: str = "sample",
        gumbel: float = 0.0,
        head_dim: int | None = None,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        early_fusion: bool = False,
        flow: str = "merged",
    ) -> None:
        super().__init__()
        if backbone not in MIT_CONFIGS:
            raise ValueError(f"EGFormer: unknown backbone {backbone!r}; one of {', '.join(MIT_CONFIGS)}")
        if num_classes < 1:
            raise ValueError(f"EGFormer: num_classes must be at least 1, got {num_classes}")
        if flow not in FLOWS:
            raise ValueError(f"EGFormer: unknown flow {flow!r}; one of {', '.join(FLOWS)}")
        channels = _channels_of(modalities)
        self.num_classes, self.validate, self.compact, self.flow = num_classes, True, False, flow
        self.encoder = MixVisionTransformer(MIT_CONFIGS[backbone], drop_path=drop_path)
        self.inputs = SensorInputs(channels, self.encoder, early_fusion, own_stems=flow == "merged")
        self.keep = checked_keep(keep, flow, len(self.inputs.sensors))
        threshold = (MERGED_THRESHOLD if flow == "merged" else 0.0) if threshold is None else threshold
        self._build_fusion(threshold, rank, gumbel)
        head_dim = (256 if backbone in ("mit_b0", "mit_b1") else 768) if head_dim is None else head_dim
        self.head = AllMLPHead(self.encoder.config.dims, head_dim, num_classes, dropout)
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "num_classes": num_classes,
            "modalities": dict(channels),
            "keep": list(self.keep),
            "threshold": threshold,
            "rank": rank,
            "gumbel": gumbel,
            "head_dim": head_dim,
            "drop_path": drop_path,
            "dropout": dropout,
            "early_fusion": early_fusion,
            "flow": flow,
        }

    def _build_fusion(self, threshold: float, rank: str, gumbel: float) -> None:
        """merge: the first choice of "merged". fusion: a ModalFusion for each stage that keeps modalities apart."""
        config, rule = self.encoder.config, (threshold, rank, gumbel)
        is_merged = self.flow == "merged"
        choice = is_merged and not self.inputs.early_fusion
        self.merge = ModalMerge(config.dims[0], self.keep[0], *rule) if choice else None
        stages = [stage for stage in range(STAGES) if self.keep[stage] > 0 and not (is_merged and stage == 0)]
        self.fusion = nn.ModuleList(
            ModalFusion(config.dims[s], self.keep[s], config.heads[s], 2 * config.reductions[s], *rule) for s in stages
        )

    @property
    def widest(self) -> tuple[int, ...]:
        """The largest keep that a call may ask for, a number a stage."""
        most = len(self.inputs.sensors)
        return (most, *(k and most for k in self.keep[1:])) if self.flow == "merged" else (most,) * STAGES

    @property
    def stages(self) -> int:
        """The number of scored stages: entries of a Trace."""
        return sum(k > 0 for k in self.keep)

    @property
    def modalities(self) -> dict[str, int]:
        """Name -> channels, in the order of the columns of `present`."""
        return self.inputs.modalities

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        present: Tensor | None = None,
        keep: Sequence[int] | None = None,
        trace: bool = False,
        scores: Scores = None,
    ) -> Any:
        """Segment a batch of frames.

        Args:
            inputs: name -> (B, channels, H, W), H and W >= 32; an absent key is a sensor missing in every frame.
            present: (B, M) bool in the order of `modalities`; False: that sensor is missing in that frame. A sensor
                with a NaN or an infinity in a frame counts as missing there.
            keep: another keep than the configured one, four numbers; more than there are sensors means all.
            trace: also return the Trace of scores, kept sensors and weights.
            scores: (B, M) for each scored stage, as Trace.score_table gives them: they take the place of the model's.

        Returns:
            logits: (B, num_classes, H, W), or (logits, Trace).

        Raises:
            ValueError, TypeError: an input is wrong (the message names it), or a frame has no usable sensor.
        """
        keep = self.keep if keep is None else checked_keep(keep, self.flow, len(self.inputs.sensors), self.keep)
        stack = self.inputs(inputs, present)
        eager = not torch.compiler.is_compiling()
        if self.validate and eager:
            _refuse_blind(stack.alive)
        record = Trace(self.inputs.sensors)
        if self.flow == "merged":
            maps = merged(self.encoder, self.merge, self.fusion, stack, keep, scores, record)
        else:
            compact = self.compact and eager and not self.training
            maps = separate(self.encoder, self.fusion, stack, keep, scores, record, compact)
        logits = resize(self.head(maps), stack.frame)
        return (logits, record) if trace else logits

    @property
    def scored_channels(self) -> int | None:
        """Channels of the tokens that the scores of "merged" read; None where there are no such scores."""
        return None if self.merge is None else self.encoder.config.dims[0]

    def first_scores(self, inputs: Mapping[str, Tensor], present: Tensor | None = None) -> tuple[Tensor, Stack]:
        """Scores of the first choice alone, in "merged", at a small part of the cost of a pass; inputs, present: as in
        `forward`.

        Returns:
            score: (B, S) of the modalities given, with gradients for the scoring alone, not for the patch embeddings;
            and the Stack that was scored.
        """
        if self.merge is None:
            raise RuntimeError("EGFormer.first_scores: this model scores no patch embeddings; see scored_channels")
        with torch.no_grad():
            stack = self.inputs(inputs, present)
        return self.merge.score(stack.tokens, stack.alive, stack.size), stack

    def train(self, mode: bool = True) -> EGFormer:
        """As nn.Module.train. Raises RuntimeError, and changes nothing, where fuse_ made it a model for inference."""
        if mode:
            self.head.refuse_training()
        super().train(mode)
        return self

    def add_modality(self, name: str, channels: int = 3) -> EGFormer:
        """Add a modality to a trained model, in place, as the last one; its weights elsewhere stay as they are.

        It costs its patch embedding alone (in "separate", for three or one channels, a vector), which is to be trained;
        an optimizer made before does not know it. Where all modalities are kept, all still are.

        Raises:
            ValueError: the name or the channels are wrong, or all channels go into one sensor (early fusion).
        """
        if self.inputs.early_fusion:
            raise ValueError("EGFormer.add_modality: early fusion has one patch embedding for all channels together")
        if name in self.modalities:
            raise ValueError(f"EGFormer.add_modality: there is a modality {name!r} already in {list(self.modalities)}")
        before = len(self.modalities)
        self.inputs.add(name, channels)
        self.keep = tuple(k + 1 if k == before else k for k in self.keep)
        drops = [module for module in self.modules() if isinstance(module, ModalDropping)]
        for drop, k in zip(drops, [k for k in self.keep if k > 0], strict=True):
            drop.keep = k
        self.config |= {"modalities": dict(self.modalities), "keep": list(self.keep)}
        return self.train(self.training)

    def fuse_(self) -> EGFormer:
        """Fold the head's projections, fusion convolution and BatchNorm into one matrix a level, in place.

        For inference: equal logits, less time; a fused model can be saved and loaded but not trained.
        """
        self.head.fuse_()
        return self

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimizer: encoder, score ("merged") or head, with weight decay or (vectors, sensor embedding)
        without."""
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            part = "encoder" if name.startswith(("encoder.", "inputs.")) else "head"
            part = "score" if name.startswith("merge.score.") else part
            decayed = parameter.dim() > 1 and not name.endswith("sensor_embedding")
            groups.setdefault((part, decayed), []).append(parameter)
        return [
            {"name": part, "params": params, "weight_decay": weight_decay if decayed else 0.0}
            for (part, decayed), params in groups.items()
        ]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into a folder; each file appears whole or not at all."""
        saving.save(folder, {**self.config, "fused": self.head.fused}, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> EGFormer:
        """Read what save_pretrained wrote.

        Raises:
            FileNotFoundError, ValueError: a file is missing or does not fit; the message names it.
        """
        config, weights = saving.load(folder)
        fused = bool(config.pop("fused", False))
        config.setdefault("flow", "separate")  # checkpoints older than the choice
        model = saving.build(cls, config, folder)
        if fused:
            model.eval().fuse_()
        saving.fill(model, weights, folder)
        return model


def _channels_of(modalities: Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    if isinstance(modalities, Mapping):
        return dict(modalities)
    names = list(modalities)
    if isinstance(modalities, str) or len(set(names)) < len(names):
        raise ValueError(f"EGFormer: modalities must be different names in a list, got {modalities!r}")
    return dict.fromkeys(names, 3)


def _refuse_blind(alive: Tensor) -> None:
    blind = ~alive.any(1)
    if bool(blind.any()):
        frames = blind.nonzero().flatten().tolist()
        raise ValueError(
            f"EGFormer: no usable sensor in frame(s) {frames} of the batch: every sensor is missing or has NaN or"
            " infinite values; leave such frames out, or set model.validate = False to get meaningless logits"
        )
