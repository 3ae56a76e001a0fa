"""A model as a folder: saved, loaded, and what is said of a folder that does not fit."""

from __future__ import annotations

import json

import pytest
import torch

from egformer_fast.models import EGFormer, egformer_b0


def model_and_inputs():
    channels = {"rgb": 3, "sar": 1, "stokes": 5}
    model = egformer_b0(5, channels, keep=(2, 2, 1, 1)).eval()
    return model, {name: torch.randn(1, count, 64, 64) for name, count in channels.items()}


@pytest.mark.parametrize("fused", [False, True])
def test_save_and_load(tmp_path, fused):
    model, inputs = model_and_inputs()
    model = model.fuse_() if fused else model
    model.save_pretrained(tmp_path / "model")
    again = EGFormer.from_pretrained(tmp_path / "model").eval()
    assert again.modalities == model.modalities
    assert again.keep == (2, 2, 1, 1)
    with torch.inference_mode():
        assert torch.equal(again(inputs), model(inputs))


def test_load_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        EGFormer.from_pretrained(tmp_path)
    model_and_inputs()[0].save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a valid safetensors file"):
        EGFormer.from_pretrained(tmp_path)
    weights.write_bytes(content)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_classes": 5', '"num_classes": 6'))
    with pytest.raises(ValueError, match=r"model\.safetensors: does not fit config\.json: .* 2 of another shape"):
        EGFormer.from_pretrained(tmp_path)
    config.write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"config\.json: model_type must be 'egformer', got 'bert'"):
        EGFormer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropuot": 0.1}, r"does not fit the model: unknown \['dropuot'\], missing \[\]"),
        ({"backbone": None}, r"does not fit the model: unknown \[\], missing \['backbone'\]"),
        ({"backbone": "mit_b9"}, "EGFormer: unknown backbone 'mit_b9'"),
        ({"modalities": 3}, "'int' object is not iterable"),
    ],
)
def test_a_config_that_does_not_fit(tmp_path, changes, message):
    model_and_inputs()[0].save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(ValueError, match=rf"config\.json: {message}"):
        EGFormer.from_pretrained(tmp_path)
