"""EGFormer on the Mix Transformers B0 to B5, and the checkpoints of SegFormer that it can start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from egformer_fast.models.egformer import EGFormer
from egformer_fast.models.keep import default_keep
from egformer_fast.models.trace import StageTrace, Trace
from egformer_fast.models.transfer import load_egformer
from egformer_fast.models.weights import load_segformer_weights

__all__ = [
    "EGFormer",
    "StageTrace",
    "Trace",
    "create_model",
    "default_keep",
    "egformer_b0",
    "egformer_b1",
    "egformer_b2",
    "egformer_b3",
    "egformer_b4",
    "egformer_b5",
    "load_egformer",
    "load_segformer_weights",
]

MODELS = tuple(f"egformer_b{size}" for size in range(6))


def create_model(
    name: str, num_classes: int, modalities: Sequence[str] | Mapping[str, int], **options: Any
) -> EGFormer:
    """An EGFormer by name, "egformer_b0" .. "egformer_b5"; options are EGFormer's.

    Raises:
        ValueError: unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; one of {', '.join(MODELS)}")
    return EGFormer(name.replace("egformer", "mit"), num_classes, modalities, **options)


def egformer_b0(num_classes: int, modalities: Sequence[str] | Mapping[str, int], **options: Any) -> EGFormer:
    """EGFormer on MiT-B0; options are EGFormer's (keep, threshold, rank, ...)."""
    return create_model("egformer_b0", num_classes, modalities, **options)


def egformer_b1(num_classes: int, modalities: Sequence[str] | Mapping[str, int], **options: Any) -> EGFormer:
    """EGFormer on MiT-B1."""
    return create_model("egformer_b1", num_classes, modalities, **options)


def egformer_b2(num_classes: int, modalities: Sequence[str] | Mapping[str, int], **options: Any) -> EGFormer:
    """EGFormer on MiT-B2."""
    return create_model("egformer_b2", num_classes, modalities, **options)


def egformer_b3(num_classes: int, modalities: Sequence[str] | Mapping[str, int], **options: Any) -> EGFormer:
    """EGFormer on MiT-B3."""
    return create_model("egformer_b3", num_classes, modalities, **options)


def egformer_b4(num_classes: int, modalities: Sequence[str] | Mapping[str, int], **options: Any) -> EGFormer:
    """EGFormer on MiT-B4."""
    return create_model("egformer_b4", num_classes, modalities, **options)


def egformer_b5(num_classes: int, modalities: Sequence[str] | Mapping[str, int], **options: Any) -> EGFormer:
    """EGFormer on MiT-B5."""
    return create_model("egformer_b5", num_classes, modalities, **options)
