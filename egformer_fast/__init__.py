"""egformer_fast: score, drop and fuse any number of sensors (EGFormer, arXiv 2505.14014) as fast torch ops,
drop-in modules and a thin model.

Modules live in `egformer_fast.nn`, models in `egformer_fast.models`, data sets in `egformer_fast.data`, training in
`egformer_fast.train`. This import loads the ops alone: no compiler, no GPU, no Triton.
"""

from egformer_fast._version import __version__
from egformer_fast.errors import ConfigError, DataError
from egformer_fast.ops import (
    modality_attention,
    modality_attention_reference,
    modality_drop,
    modality_drop_reference,
    modality_score,
    modality_score_reference,
    use_backend,
)

__all__ = [
    "ConfigError",
    "DataError",
    "__version__",
    "modality_attention",
    "modality_attention_reference",
    "modality_drop",
    "modality_drop_reference",
    "modality_score",
    "modality_score_reference",
    "use_backend",
]
