"""SensorInputs: from a dict of sensor images to one stack of tokens, with missing and broken sensors marked.

alive[b,m]  = sensor given, present[b,m], and its input all finite; other images are replaced by zeros
tokens[b,m] = patch_embed_m(image[b,m])       (B, S, N, C), S sensors given in this call; where sensors share a patch
              embedding ("separate"), + sensor_embedding[m]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from egformer_fast.models.mit import MixVisionTransformer
from egformer_fast.ops._checks import describe, is_autocast_on

STACKED = "stacked"
MIN_SIDE = 32


class Stack(NamedTuple):
    """tokens: (B, S, N, C); alive: (B, S) bool; sensor: (S,) int64; size: tokens' (h, w); frame: images' (H, W)."""

    tokens: Tensor
    alive: Tensor
    sensor: Tensor
    size: tuple[int, int]
    frame: tuple[int, int]


def all_finite(image: Tensor) -> Tensor:
    """(B, ...) -> (B,) bool. A NaN goes through abs and amax, and is not below infinity; isfinite takes seven times as
    long on a CPU."""
    return image.flatten(1).abs().amax(1) < torch.inf


class SensorInputs(nn.Module):
    """The first patch embedding for each kind of sensor, and a learned vector that says which sensor a map is.

    modalities: name -> channels. early_fusion: all channels are stacked into one sensor named "stacked"; a missing
    sensor's channels are zeros then. own_stems: every sensor has a patch embedding of its own, whose bias is that
    vector; else sensors of three or one channels share the encoder's.
    """

    sensor_embedding: nn.Parameter | None

    def __init__(
        self, modalities: dict[str, int], encoder: MixVisionTransformer, early_fusion: bool, own_stems: bool
    ) -> None:
        super().__init__()
        _check_modalities(modalities)
        self.modalities, self.early_fusion, self.own_stems = modalities, early_fusion, own_stems
        sensors = {STACKED: sum(modalities.values())} if early_fusion else modalities
        self.sensors = tuple(sensors)
        if own_stems:  # only the start of every stem
            encoder.get_submodule("patch_embed1").requires_grad_(False)
        # The encoder is a sibling module: a plain tuple keeps its parameters from being registered twice.
        self._encoder = (encoder,)
        self.stems = nn.ModuleDict(
            {name: encoder.new_stem(count) for name, count in sensors.items() if own_stems or count not in (1, 3)}
        )
        embedding = None if own_stems else nn.Parameter(torch.zeros(len(sensors), encoder.config.dims[0]))
        self.register_parameter("sensor_embedding", embedding)

    def restart_stems(self, names: Iterable[str] | None = None) -> None:
        """Start the own patch embeddings of these sensors (None: of all) from the shared one: call it after loading
        the shared one's weights."""
        encoder = self._encoder[0]
        for name in self.stems if names is None else names:
            encoder.start_stem(self.stems[name])

    def add(self, name: str, channels: int) -> None:
        """One more sensor, the last: a patch embedding that starts as the encoder's where it needs its own, else a zero
        embedding."""
        _check_modalities({**self.modalities, name: channels})
        encoder = self._encoder[0]
        start = next(encoder.parameters())
        if self.own_stems or channels not in (1, 3):
            self.stems[name] = encoder.new_stem(channels).to(start)
        if self.sensor_embedding is not None:
            row = self.sensor_embedding.new_zeros(1, self.sensor_embedding.shape[1])
            self.sensor_embedding = nn.Parameter(torch.cat([self.sensor_embedding.detach(), row]))
        self.modalities[name] = channels
        self.sensors = (*self.sensors, name)

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor | None) -> Stack:
        given = self._checked(inputs, present)
        first = inputs[given[0]]
        frame = (first.shape[2], first.shape[3])
        columns = [list(self.modalities).index(name) for name in given]
        alive = torch.stack([all_finite(inputs[name]) for name in given], 1)
        if present is not None:
            alive = alive & _take(present, 1, columns)
        images = {name: torch.where(alive[:, i, None, None, None], inputs[name], 0) for i, name in enumerate(given)}
        if self.early_fusion:
            images, columns = {STACKED: self._stacked(images, first)}, [0]
            alive = alive.any(1, keepdim=True)
        tokens, size = self._embed(images)
        if self.sensor_embedding is not None:
            tokens = tokens + _take(self.sensor_embedding, 0, columns).unsqueeze(1)
        sensors = torch.arange(len(self.sensors), device=tokens.device)
        return Stack(tokens, alive, _take(sensors, 0, columns), size, frame)

    def _stacked(self, images: dict[str, Tensor], like: Tensor) -> Tensor:
        batch, _, *frame = like.shape
        absent = {n: like.new_zeros((batch, c, *frame)) for n, c in self.modalities.items() if n not in images}
        return torch.cat([{**images, **absent}[name] for name in self.modalities], 1)

    def _embed(self, images: dict[str, Tensor]) -> tuple[Tensor, tuple[int, int]]:
        """One convolution for all sensors that share the first patch embedding, one each for the others."""
        encoder = self._encoder[0]
        shared = [name for name in images if name not in self.stems]
        maps: dict[str, Tensor] = {}
        size = (0, 0)
        if shared:
            flat = torch.stack([images[name].expand(-1, 3, -1, -1) for name in shared], 1)
            tokens, size = encoder.patch_embed(0, flat.flatten(0, 1))
            tokens = tokens.unflatten(0, flat.shape[:2])
            if len(shared) == len(images):
                return tokens, size
            maps = dict(zip(shared, tokens.unbind(1), strict=True))
        for name, image in images.items():
            if name in self.stems:
                maps[name], size = encoder.patch_embed(0, image, self.stems[name])
        return torch.stack([maps[name] for name in images], 1), size

    def _checked(self, inputs: Mapping[str, Tensor], present: Tensor | None) -> list[str]:
        """The names given, in the order of `modalities`."""
        unknown = [name for name in inputs if name not in self.modalities]
        if unknown:
            raise ValueError(f"EGFormer: unknown modality {unknown[0]!r}; this model has {list(self.modalities)}")
        given = [name for name in self.modalities if name in inputs]
        if not given:
            raise ValueError(f"EGFormer: inputs is empty; give at least one of {list(self.modalities)}")
        first, dtype = inputs[given[0]], next(self._encoder[0].parameters()).dtype
        for name in given:
            _check_image(name, inputs[name], self.modalities[name], first, dtype)
        if present is not None:
            wanted = (first.shape[0], len(self.modalities))
            mask = isinstance(present, Tensor) and present.dtype == torch.bool
            if not mask or tuple(present.shape) != wanted:
                raise ValueError(f"EGFormer: present must be bool (B, M) = {wanted}, got {describe(present)}")
        return given


def _take(table: Tensor, dim: int, columns: list[int]) -> Tensor:
    """Columns of a table by slicing: copying an index list to a GPU would stall it and end a CUDA graph."""
    if columns == list(range(table.shape[dim])):
        return table
    return torch.cat([table.narrow(dim, column, 1) for column in columns], dim)


def _check_modalities(modalities: dict[str, int]) -> None:
    if not 1 <= len(modalities) <= 16:
        raise ValueError(f"EGFormer: 1 to 16 modalities, got {len(modalities)}: {list(modalities)}")
    for name, count in modalities.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"EGFormer: a modality's name must be letters, digits and underscores, got {name!r}")
        if hasattr(nn.ModuleDict, name):
            raise ValueError(f"EGFormer: a modality cannot be called {name!r}: PyTorch's modules use that name")
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"EGFormer: modality {name!r} must have at least 1 channel, got {count!r}")


def _check_image(name: str, image: Tensor, channels: int, first: Tensor, dtype: torch.dtype) -> None:
    if not isinstance(image, Tensor) or image.dim() != 4 or not image.is_floating_point():
        raise TypeError(
            f"EGFormer: {name} must be a floating point Tensor (B, {channels}, H, W), got {describe(image)}"
        )
    # Autocast casts whatever is not float64.
    if image.dtype != dtype and (torch.float64 in (image.dtype, dtype) or not is_autocast_on(image.device.type)):
        wanted = str(dtype).removeprefix("torch.")
        raise TypeError(f"EGFormer: {name} must be {wanted} as the model's weights are, got {describe(image)}")
    if image.shape[1] != channels:
        raise ValueError(f"EGFormer: {name} must have {channels} channel(s), got {describe(image)}")
    if image.shape[0] != first.shape[0] or image.shape[2:] != first.shape[2:]:
        raise ValueError(
            f"EGFormer: all sensors of a call must share batch and size; {name} is {describe(image)}, the first is"
            f" {describe(first)}"
        )
    if min(image.shape[2:]) < MIN_SIDE:
        raise ValueError(f"EGFormer: H and W must be at least {MIN_SIDE}, got {describe(image)} for {name}")
