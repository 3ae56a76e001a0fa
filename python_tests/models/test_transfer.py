"""Starting a model from another EGFormer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from egformer_fast.models import EGFormer, egformer_b0, load_egformer

EMBEDDING = "inputs.sensor_embedding"


def model(modalities: list[str] | dict[str, int], classes: int = 3, seed: int = 0, **options: object) -> EGFormer:
    torch.manual_seed(seed)
    made = egformer_b0(classes, modalities, **{"flow": "separate", **options})  # type: ignore[arg-type]
    if made.inputs.sensor_embedding is not None:
        torch.nn.init.normal_(made.inputs.sensor_embedding)
    return made


def test_equal_models_end_equal(tmp_path: Path) -> None:
    source, target = model(["rgb", "depth"]), model(["rgb", "depth"], seed=1)
    source.save_pretrained(tmp_path)
    assert load_egformer(target, tmp_path) == []
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_embeddings_go_by_name_and_what_does_not_fit_is_told(tmp_path: Path) -> None:
    source, target = model(["rgb", "depth", "event"]), model(["event", "lidar", "rgb"], classes=5, seed=1)
    source.save_pretrained(tmp_path)
    own = target.inputs.sensor_embedding[1].clone()
    fresh = load_egformer(target, tmp_path)
    assert fresh == ["head.linear_pred.weight", "head.linear_pred.bias", f"{EMBEDDING} of lidar"]
    theirs = source.inputs.sensor_embedding
    assert torch.equal(target.inputs.sensor_embedding, torch.stack([theirs[2], own, theirs[0]]))
    assert torch.equal(target.fusion[3].score.fc1.weight, source.fusion[3].score.fc1.weight)


def test_an_own_patch_embedding_starts_from_what_was_loaded(tmp_path: Path) -> None:
    """As when SegFormer's weights are loaded; one that the source has too is taken from there."""
    source, target = model({"rgb": 3, "sar": 2}), model({"rgb": 3, "sar": 2, "stokes": 6}, seed=1)
    torch.nn.init.normal_(source.inputs.stems["sar"].proj.weight)
    source.save_pretrained(tmp_path)
    fresh = load_egformer(target, tmp_path)
    parts = [f"inputs.stems.stokes.{name}" for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias")]
    assert fresh == [*parts, f"{EMBEDDING} of stokes"]
    shared = source.encoder.get_parameter("patch_embed1.proj.weight")
    stokes, sar = (target.inputs.stems[name].proj.weight for name in ("stokes", "sar"))
    torch.testing.assert_close(stokes, shared.repeat(1, 2, 1, 1) / 2)
    assert torch.equal(sar, source.inputs.stems["sar"].proj.weight)


def test_stems_of_the_merged_flow_go_by_name(tmp_path: Path) -> None:
    source, target = (
        model(names, seed=n, flow="merged") for n, names in enumerate((["rgb", "depth"], ["lidar", "rgb"]))
    )
    torch.nn.init.normal_(source.inputs.stems["rgb"].proj.weight)
    source.save_pretrained(tmp_path)
    fresh = load_egformer(target, tmp_path)
    assert fresh == [f"inputs.stems.lidar.{name}" for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias")]
    rgb, lidar = (target.inputs.stems[name].proj.weight for name in ("rgb", "lidar"))
    assert torch.equal(rgb, source.inputs.stems["rgb"].proj.weight)
    assert torch.equal(lidar, source.encoder.get_parameter("patch_embed1.proj.weight"))
    with pytest.raises(ValueError, match="found flow 'merged', wanted 'separate'"):
        load_egformer(model(["rgb"]), tmp_path)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    model(["rgb", "depth"], head_dim=64).save_pretrained(tmp_path / "narrow")
    with pytest.raises(ValueError, match="narrow: found head_dim 64, wanted 256"):
        load_egformer(model(["rgb"]), tmp_path / "narrow")
    model(["rgb", "depth"]).eval().fuse_().save_pretrained(tmp_path / "fused")
    with pytest.raises(ValueError, match="fused: its head was fused for inference"):
        load_egformer(model(["rgb"]), tmp_path / "fused")
    config = tmp_path / "fused/config.json"
    config.write_text(config.read_text().replace("early_fusion", "fusion"))
    with pytest.raises(ValueError, match=r"fused: not a saved EGFormer: \['early_fusion'\] is missing in it"):
        load_egformer(model(["rgb"]), tmp_path / "fused")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_egformer(model(["rgb"]), tmp_path)
