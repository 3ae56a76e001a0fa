"""What EGFormer refuses: inputs, keep and arguments that are wrong, each by name."""

from __future__ import annotations

import pytest
import torch

from egformer_fast.models import EGFormer, create_model, egformer_b0

NAMES = ("rgb", "depth", "event", "lidar")


def small() -> EGFormer:
    return egformer_b0(5, NAMES).eval()


def frame(batch: int = 2) -> dict[str, torch.Tensor]:
    return {name: torch.randn(batch, 3, 64, 64) for name in NAMES}


@pytest.mark.parametrize(
    ("inputs", "present", "message"),
    [
        ({"thermal": torch.zeros(1, 3, 64, 64)}, None, r"unknown modality 'thermal'; this model has \['rgb', 'depth'"),
        ({}, None, "inputs is empty"),
        ({"rgb": torch.zeros(1, 4, 64, 64)}, None, r"rgb must have 3 channel\(s\), got float32 \(1, 4, 64, 64\)"),
        ({"rgb": torch.zeros(1, 3, 31, 64)}, None, "H and W must be at least 32, got .* for rgb"),
        (
            {"rgb": torch.zeros(1, 3, 64, 64), "depth": torch.zeros(1, 3, 64, 32)},
            None,
            "all sensors of a call must share batch and size; depth is",
        ),
        (
            frame(batch=2),
            torch.ones(2, 3, dtype=torch.bool),
            r"present must be bool \(B, M\) = \(2, 4\), got bool \(2, 3",
        ),
        (frame(batch=1), [[True] * 4], r"present must be bool \(B, M\) = \(1, 4\), got \[\[True"),
        (frame(batch=2), torch.tensor([[True] * 4, [False] * 4]), r"no usable sensor in frame\(s\) \[1\]"),
    ],
)
def test_input_errors(inputs, present, message):
    with pytest.raises(ValueError, match=f"EGFormer: {message}"):
        small()(inputs, present)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_an_image_of_another_dtype_is_named(dtype):
    inputs = frame()
    inputs["event"] = inputs["event"].to(dtype)
    with pytest.raises(TypeError, match=r"EGFormer: event must be float32 as the model's weights are, got float"):
        small()(inputs)
    if dtype == torch.float16:
        with torch.autocast("cpu"):
            assert small()(inputs).isfinite().all()


@pytest.mark.parametrize("keep", [(1,), (2, 1, 1), (2, 1, 1, 1, 5), (2.0, 1, 1, 1), 2], ids=str)
def test_keep_of_a_call_is_checked(keep):
    with pytest.raises(ValueError, match=r"keep must be 4 integers, the first at least 1, the others at least 0, got"):
        small()(frame(), keep=keep)
    with pytest.raises(ValueError, match=r"keep must be 4 integers of at least 1, got"):
        egformer_b0(5, NAMES, flow="separate").eval()(frame(), keep=keep)


def test_survivors_beside_the_stream_need_modules_that_were_built():
    model = egformer_b0(5, NAMES, keep=(4, 2, 0, 0)).eval()
    with pytest.raises(
        ValueError, match=r"keep \(4, 2, 1, 0\) asks for survivors at a stage .* built without, keep \[4, 2, 0, 0\]"
    ):
        model(frame(), keep=(4, 2, 1, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": (3, 2, 1)}, r"keep must be 4 integers, the first at least 1, the others at least 0, got \(3, 2, 1\)"),
        ({"keep": (0, 0, 0, 0)}, "keep must be 4 integers, the first at least 1"),
        ({"keep": (3, 0, 1, 0)}, "keep must not return from 0, where nothing survives, got"),
        ({"keep": (3, 2, 1), "flow": "separate"}, r"keep must be 4 integers of at least 1, got \(3, 2, 1\)"),
        ({"keep": (3, 2, 1, 0), "flow": "separate"}, "keep must be 4 integers"),
        ({"flow": "late"}, "unknown flow 'late'; one of merged, separate"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"modalities": []}, "1 to 16 modalities, got 0"),
        ({"modalities": {"rgb": 0}}, "modality 'rgb' must have at least 1 channel, got 0"),
        ({"modalities": ["near-infrared"]}, "name must be letters, digits and underscores, got 'near-infrared'"),
        ({"modalities": "rgb"}, "modalities must be different names in a list, got 'rgb'"),
        ({"modalities": ["rgb", "rgb"]}, "modalities must be different names in a list, got"),
        ({"modalities": {"type": 5}}, "a modality cannot be called 'type'"),
        ({"threshold": 1.5}, "threshold must be between 0 and 1, got 1.5"),
        ({"rank": "frame"}, "rank must be 'sample' or 'batch', got 'frame'"),
        ({"gumbel": -1.0}, "gumbel must be 0 or more, got -1.0"),
        ({"name": "egformer_b9"}, "unknown model 'egformer_b9'"),
    ],
)
def test_constructor_errors(options, message):
    with pytest.raises(ValueError, match=message):
        create_model(**{"name": "egformer_b0", "num_classes": 5, "modalities": NAMES, **options})
