"""Parameters and multiply-adds of EGFormer-B0 for 1 to 8 modalities at 512x512 and 1024x1024.

GMAC = FlopCounterMode's total / 2 (one multiply-add is two FLOPs), batch 1, 25 classes, on the meta device: nothing is
computed. Attention is counted under SDPBackend.MATH: the counter sees nothing of CPU flash attention otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.registry import case
from egformer_fast.models import EGFormer, create_model

CLASSES = 25
SIZES = (512, 1024)

# CMNeXt on four modalities, 25 classes: parameters and GMAC of our reproduction with fvcore's counter (one
# multiply-add is one), for comparison; 58.73 M and 65.42 G are also what the DELIVER repository states for B2.
CMNEXT = {
    "cmnext_b0": {"params_m": 10.31, "gmac": {"512": 12.80, "1024": 63.68}},
    "cmnext_b2": {"params_m": 58.73, "gmac": {"512": 65.34, "1024": 308.0}},
}


def parameters(model: EGFormer) -> int:
    return sum(p.numel() for p in model.parameters())


def gmac(model: EGFormer, size: int) -> float:
    """1e9 multiply-adds for one frame of size x size with every modality given."""
    from torch.utils.flop_counter import FlopCounterMode

    inputs = {name: torch.empty(1, count, size, size, device="meta") for name, count in model.modalities.items()}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    return float(counter.get_total_flops()) / 2e9


def build(modalities: int, flow: str, fused: bool = False) -> EGFormer:
    with torch.device("meta"):
        model = create_model("egformer_b0", CLASSES, [f"sensor{i}" for i in range(modalities)], flow=flow).eval()
    model.validate = False
    return model.fuse_() if fused else model


def row(modalities: int, flow: str = "merged") -> dict[str, Any]:
    trained, fused = build(modalities, flow), build(modalities, flow, fused=True)
    return {
        "modalities": modalities,
        "keep": list(trained.keep),
        "params_m": parameters(trained) / 1e6,
        "params_fused_m": parameters(fused) / 1e6,
        "gmac": {str(size): gmac(trained, size) for size in SIZES},
        "gmac_fused": {str(size): gmac(fused, size) for size in SIZES},
    }


@case
def complexity() -> dict[str, Any]:
    """Both flows with their default keep, for 1 to 8 modalities."""
    return {
        "classes": CLASSES,
        "default": [row(count) for count in range(1, 9)],
        "separate": [row(count, "separate") for count in range(1, 9)],
        "peers": CMNEXT,
    }
