"""The three ops of EGFormer as torch ops: score the modalities, drop the weakest, attend over the survivors."""

from egformer_fast.ops._backend import BACKENDS, use_backend
from egformer_fast.ops._register import install_flop_formulas
from egformer_fast.ops.modality_attention import modality_attention, modality_attention_reference
from egformer_fast.ops.modality_drop import modality_drop, modality_drop_reference
from egformer_fast.ops.modality_score import modality_score, modality_score_reference

install_flop_formulas()

__all__ = [
    "BACKENDS",
    "modality_attention",
    "modality_attention_reference",
    "modality_drop",
    "modality_drop_reference",
    "modality_score",
    "modality_score_reference",
    "use_backend",
]
