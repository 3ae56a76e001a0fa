"""Drop-in modules over the ops; the same state_dict on every backend."""

from egformer_fast.nn.fusion import Fused, ModalFusion
from egformer_fast.nn.merge import ModalMerge
from egformer_fast.nn.modality_attention import ModalAttention
from egformer_fast.nn.modality_drop import ModalDropping
from egformer_fast.nn.modality_score import AnyModalScoring

__all__ = ["AnyModalScoring", "Fused", "ModalAttention", "ModalDropping", "ModalFusion", "ModalMerge"]
