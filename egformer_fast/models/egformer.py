"""EGFormer: one encoder for any number of sensors, which drops the least informative ones stage by stage.

    for stage i of 4:
        x                  = patch_embed_i + transformer blocks on the surviving maps  (one set of weights for all)
        score              = ASM_i(x)                                                  modality_score
        x, fused_i, weight = MDM_i(x, score * weight, keep_i)                          modality_drop
        fused_i           += proj(attention(q(fused_i), kv(pool(x)), log weight))      modality_attention
    logits = all-MLP head over fused_1 .. fused_4, upsampled to (H, W)

A stage's weights are the next stage's prior: evidence against a sensor adds up (see nn/fusion.py).
arXiv 2505.14014 on the Mix Transformer of SegFormer (arXiv 2105.15203). With one sensor it is SegFormer, to the bit of
its arithmetic: proj starts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egformer_fast.models import saving
from egformer_fast.models.head import AllMLPHead
from egformer_fast.models.inputs import SensorInputs
from egformer_fast.models.mit import MIT_CONFIGS, MixVisionTransformer
from egformer_fast.models.resize import resize
from egformer_fast.models.trace import StageTrace, Trace
from egformer_fast.nn import Fused, ModalFusion

STAGES = 4


def default_keep(modalities: int) -> tuple[int, ...]:
    """Modalities that survive each stage: max(1, round(M ** ((2 - i) / 3))); (3, 2, 1, 1) for four."""
    return tuple(max(1, round(modalities ** ((2 - stage) / 3))) for stage in range(STAGES))


class EGFormer(nn.Module):
    """Any-sensor semantic segmentation.

    Args:
        backbone: "mit_b0" .. "mit_b5".
        num_classes: number of classes.
        modalities: names, or name -> channels. Three- and one-channel modalities share the first patch embedding (one
            channel is repeated); another channel count gets its own, started from the shared one.
        keep: modalities that survive each of the four stages, default `default_keep`. keep = (M, M, M, M) drops none.
        threshold, rank, gumbel: see nn.ModalDropping.
        head_dim: width of the head; default 256 (B0, B1) or 768, as SegFormer.
        drop_path, dropout: rates of stochastic depth and of the head's dropout in training.
        early_fusion: stack all channels into one sensor: the baseline that EGFormer is compared with.

    Attributes:
        validate: refuse (in eager mode) a frame that has no usable sensor; default True.
        compact: in eager evaluation, cut the slots that are padded in every sample of the batch, so that a threshold
            or missing sensors save time; costs one host read a stage; default False.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        modalities: Sequence[str] | Mapping[str, int],
        keep: Sequence[int] | None = None,
        threshold: float = 0.0,
        rank: str = "sample",
        gumbel: float = 0.0,
        head_dim: int | None = None,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        early_fusion: bool = False,
    ) -> None:
        super().__init__()
        if backbone not in MIT_CONFIGS:
            raise ValueError(f"EGFormer: unknown backbone {backbone!r}; one of {', '.join(MIT_CONFIGS)}")
        if num_classes < 1:
            raise ValueError(f"EGFormer: num_classes must be at least 1, got {num_classes}")
        channels = _channels_of(modalities)
        self.num_classes, self.validate, self.compact = num_classes, True, False
        self.encoder = MixVisionTransformer(MIT_CONFIGS[backbone], drop_path=drop_path)
        self.inputs = SensorInputs(channels, self.encoder, early_fusion)
        self.keep = _checked_keep(keep, len(self.inputs.sensors))
        dims = self.encoder.config.dims
        self.fusion = nn.ModuleList(
            ModalFusion(dim, kept, heads, 2 * reduction, threshold, rank, gumbel)
            for dim, kept, heads, reduction in zip(
                dims, self.keep, self.encoder.config.heads, self.encoder.config.reductions, strict=True
            )
        )
        head_dim = (256 if backbone in ("mit_b0", "mit_b1") else 768) if head_dim is None else head_dim
        self.head = AllMLPHead(dims, head_dim, num_classes, dropout)
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "num_classes": num_classes,
            "modalities": channels,
            "keep": list(self.keep),
            "threshold": threshold,
            "rank": rank,
            "gumbel": gumbel,
            "head_dim": head_dim,
            "drop_path": drop_path,
            "dropout": dropout,
            "early_fusion": early_fusion,
        }

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
    ) -> Any:
        """Segment a batch of frames.

        Args:
            inputs: name -> (B, channels, H, W), H and W >= 32; an absent key is a sensor missing in every frame.
            present: (B, M) bool in the order of `modalities`; False: that sensor is missing in that frame. A sensor
                with a NaN or an infinity in a frame counts as missing there.
            keep: another keep than the configured one, four numbers; more than there are sensors means all.
            trace: also return the Trace of scores, kept sensors and weights.

        Returns:
            logits: (B, num_classes, H, W), or (logits, Trace).

        Raises:
            ValueError, TypeError: an input is wrong (the message names it), or a frame has no usable sensor.
        """
        keep = self.keep if keep is None else _checked_keep(keep, len(self.inputs.sensors))
        stack = self.inputs(inputs, present)
        alive, sensor = stack.alive, stack.sensor.expand(stack.alive.shape)
        if self.validate and not torch.compiler.is_compiling():
            _refuse_blind(alive)
        record = Trace(self.inputs.sensors)
        fused_maps = []
        tokens, size, prior = stack.tokens, stack.size, None
        for stage, fusion in enumerate(self.fusion):
            if stage > 0:
                maps = _to_maps(tokens, size)
                flat, size = self.encoder.patch_embed(stage, maps)
                tokens = flat.unflatten(0, alive.shape)
            features = self.encoder.blocks(stage, tokens.flatten(0, 1), size).unflatten(0, alive.shape)
            fused = self._compacted(fusion(features, size, alive, keep[stage], prior))
            fused_maps.append(fused.fused.transpose(1, 2).unflatten(2, size))
            kept = torch.where(fused.index >= 0, sensor.gather(1, fused.index.clamp_min(0)), -1)
            if trace:
                shown = torch.where(alive, sensor, -1)
                record.stages.append(StageTrace(fused.score, shown, kept, fused.weight))
            tokens, alive, sensor, prior = fused.survivors, fused.index >= 0, kept, fused.weight
        logits = resize(self.head(fused_maps), stack.frame)
        return (logits, record) if trace else logits

    def _compacted(self, fused: Fused) -> Fused:
        if not self.compact or self.training or torch.compiler.is_compiling():
            return fused
        used = max([1, *(fused.index >= 0).sum(1).tolist()])
        return fused._replace(
            survivors=fused.survivors[:, :used], index=fused.index[:, :used], weight=fused.weight[:, :used]
        )

    def train(self, mode: bool = True) -> EGFormer:
        """As nn.Module.train. Raises RuntimeError, and changes nothing, where fuse_ made it a model for inference."""
        if mode:
            self.head.refuse_training()
        super().train(mode)
        return self

    def fuse_(self) -> EGFormer:
        """Fold the head's projections, fusion convolution and BatchNorm into one matrix a level, in place.

        For inference: equal logits, less time; a fused model can be saved and loaded but not trained.
        """
        self.head.fuse_()
        return self

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimizer: encoder or head, with weight decay or (vectors, sensor embedding) without."""
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            part = "encoder" if name.startswith(("encoder.", "inputs.")) else "head"
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


def _to_maps(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, N, C) -> (B * K, C, h, w), a view."""
    return tokens.flatten(0, 1).unflatten(1, size).permute(0, 3, 1, 2)


def _checked_keep(keep: Sequence[int] | None, modalities: int) -> tuple[int, ...]:
    if keep is None:
        return default_keep(modalities)
    numbers = list(keep) if isinstance(keep, Sequence) else []
    if len(numbers) != STAGES or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in numbers):
        raise ValueError(f"EGFormer: keep must be {STAGES} integers of at least 1, got {keep!r}")
    return tuple(min(k, modalities) for k in keep)


def _refuse_blind(alive: Tensor) -> None:
    blind = ~alive.any(1)
    if bool(blind.any()):
        frames = blind.nonzero().flatten().tolist()
        raise ValueError(
            f"EGFormer: no usable sensor in frame(s) {frames} of the batch: every sensor is missing or has NaN or"
            " infinite values; leave such frames out, or set model.validate = False to get meaningless logits"
        )
