"""Public SegFormer checkpoints: every layout loads to the same values, equal logits, and a misfit is refused whole."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from segformer_layouts import RULES, to_layout
from torch import nn

from egformer_fast.models import EGFormer
from egformer_fast.models.head import AllMLPHead
from egformer_fast.models.mit import MIT_CONFIGS, MixVisionTransformer
from egformer_fast.models.weights import LAYOUTS, load_segformer_weights

# sha256 of the sorted "name shape" lines that transformers 5.23 (file, memory) and segmentation_models_pytorch 0.6
# write for SegFormer-B0 with 7 classes and a head of 256.
DIGESTS = {"hugging face": "90c92f633eb52b1b", "hugging face 5": "14cec2268bc9bce8", "smp": "acb9dc277e7290f1"}


class SegFormer(nn.Module):
    def __init__(self, name: str = "mit_b0", classes: int = 7, head_dim: int = 256) -> None:
        super().__init__()
        self.encoder = MixVisionTransformer(MIT_CONFIGS[name])
        self.head = AllMLPHead(self.encoder.config.dims, head_dim, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


def waves(shape: torch.Size, number: int) -> torch.Tensor:
    count = torch.arange(shape.numel(), dtype=torch.float64)
    return torch.sin(0.7 * (count % 1009) ** 2 + number).reshape(shape)


def fill(model: SegFormer) -> SegFormer:
    """float64 weights by a formula, so that another program can have the same."""
    state = model.double().eval().state_dict()
    for number, (name, tensor) in enumerate(sorted(state.items())):
        if not tensor.is_floating_point():
            continue
        level = 1.0 if "norm" in name.rsplit(".", 2)[-2] and name.endswith("weight") or name.endswith("_var") else 0.0
        gain = 0.3 if tensor.dim() < 2 else 1.5 / tensor[0].numel() ** 0.5
        tensor.copy_(level + gain * waves(tensor.shape, number))
    return model


def random_segformer() -> SegFormer:
    model = SegFormer()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_()
    return model


def test_every_layout_has_its_rules():
    assert set(RULES) == set(LAYOUTS)


@pytest.mark.parametrize("layout", DIGESTS)
def test_rules_write_the_names_of_the_real_programs(layout):
    state = to_layout(SegFormer().state_dict(), layout)
    lines = "\n".join(sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == DIGESTS[layout]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", MIT_CONFIGS)
def test_every_size_loads_whole(size, layout):
    with torch.device("meta"):
        model = SegFormer(size)
    report = load_segformer_weights(model, to_layout(model.state_dict(), layout))
    assert report.layout == layout
    assert not (report.missing or report.mismatched or report.unexpected)
    wanted = model if "encoder" not in layout else nn.ModuleDict({"encoder": model.encoder})
    assert report.loaded == list(wanted.state_dict())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_round_trip(layout):
    source, model = random_segformer(), SegFormer()
    load_segformer_weights(model, to_layout(source.state_dict(), layout))
    own, whole = model.state_dict(), source.state_dict()
    for name in whole:
        if name.startswith("encoder.") or not layout.endswith("encoder"):
            assert torch.equal(own[name], whole[name]), name


# Computed by transformers 5.23's SegformerForSemanticSegmentation in float64 with the weights of `fill` (and the
# epsilons of the original release, 1e-6 in blocks): logits of class i at row i, column 5 i, both modulo the map.
HUGGING_FACE_LOGITS = {
    (64, 64): (
        1.673532246612,
        0.019976554061,
        -0.162171484938,
        0.284342758045,
        0.129251688134,
        -0.620023057553,
        0.395026040824,
    ),
    (33, 47): (
        1.785558658725,
        -0.113808438629,
        -0.203165751112,
        0.187942933481,
        0.135852440981,
        -0.502236767628,
        0.63100081877,
    ),
    (96, 160): (
        1.838567022411,
        -0.045094926085,
        -0.066937893268,
        0.432410649841,
        -0.02226626034,
        -0.488121571284,
        0.576910822563,
    ),
}


@pytest.mark.parametrize("size", HUGGING_FACE_LOGITS)
def test_logits_of_hugging_faces_port(size):
    model = SegFormer().double().eval()
    load_segformer_weights(model, to_layout(fill(SegFormer()).state_dict(), "hugging face"))
    with torch.no_grad():
        logits = model(waves(torch.Size((1, 3, *size)), 1))
    i = torch.arange(7)
    found = logits[0, i, i % logits.shape[2], 5 * i % logits.shape[3]]
    torch.testing.assert_close(found, torch.tensor(HUGGING_FACE_LOGITS[size], dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_files(tmp_path, ending):
    source, model = random_segformer(), SegFormer()
    state, path = to_layout(source.state_dict(), "original"), tmp_path / f"model.{ending}"
    if ending == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"meta": {"epoch": 3, "CLASSES": ("road", "sky")}, "state_dict": wrapped}, path)
    report = load_segformer_weights(model, path)
    assert len(report.loaded) == 192 and str(report).startswith("layout 'original': 192 loaded, 0 missing")
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), source.state_dict().values(), strict=True)
    )


def test_half_precision_files_load_into_float32():
    source, model = random_segformer(), SegFormer()
    load_segformer_weights(model, {name: t.half() for name, t in to_layout(source.state_dict(), "original").items()})
    weight = model.encoder.norm1.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, source.encoder.norm1.weight.half().float())


def test_imagenet_files_have_no_head_and_an_unused_classifier():
    source = random_segformer()
    state = to_layout(source.state_dict(), "original encoder")
    extra = {"head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000), "pos_embed": torch.zeros(1)}
    model = random_segformer()
    before = model.head.linear_pred.weight.clone()
    report = load_segformer_weights(model, state | extra)
    assert report.unexpected == ["pos_embed"] and report.notes == ["the file has no head"]
    assert len(report.loaded) == 176 and torch.equal(model.head.linear_pred.weight, before)


def test_head_can_be_left_out():
    state = to_layout(random_segformer().state_dict(), "original")
    for model, options in ((SegFormer(), {"head": False}), (SegFormer().encoder, {})):
        report = load_segformer_weights(model, state, **options)
        assert report.notes == ["the file's head is left out"] and not report.unexpected
        assert len(report.loaded) == 176


def test_a_classifier_of_other_classes_is_left_out_with_a_note():
    source, model = random_segformer(), SegFormer(classes=5)
    report = load_segformer_weights(model, to_layout(source.state_dict(), "hugging face"))
    assert len(report.loaded) == 190
    assert report.notes == [
        "the classifier is left out: head.linear_pred.weight (7, 256, 1, 1), wanted (5, 256, 1, 1);"
        " head.linear_pred.bias (7,), wanted (5,)"
    ]
    assert torch.equal(model.head.linear_fuse.conv.weight, source.head.linear_fuse.conv.weight)


def test_batchnorm_counter_may_be_absent():
    state = to_layout(random_segformer().state_dict(), "original")
    del state["decode_head.linear_fuse.bn.num_batches_tracked"]
    report = load_segformer_weights(SegFormer(), state)
    assert len(report.loaded) == 191 and not report.missing


def meta(size: str, layout: str = "original") -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return to_layout(SegFormer(size).state_dict(), layout)


def without(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("size", "state", "message"),
    [
        (
            "mit_b0",
            meta("mit_b1"),
            r"mit_b0 do not fit: encoder tensors 176 of another shape: encoder.patch_embed1.*wanted",
        ),
        ("mit_b1", meta("mit_b2"), r"156 not in the model: encoder.block1.2.attn.kv.bias, encoder.block1.2"),
        ("mit_b2", meta("mit_b1"), r"156 missing: encoder.block1.2.norm1.weight"),
        ("mit_b0", without(meta("mit_b0"), "backbone.norm3.bias"), r"encoder tensors 1 missing: encoder.norm3.bias"),
        (
            "mit_b0",
            without(meta("mit_b0", "hugging face"), "segformer.encoder.block.0.1.attention.self.value.bias"),
            r"\(layout 'hugging face'\).* 1 missing: encoder.block1.1.attn.kv.bias",
        ),
        (
            "mit_b0",
            without(meta("mit_b0"), "decode_head.linear_c2.proj.bias"),
            r"heads do not fit \(head=False leaves it out\): 1 missing: head.linear_c2.proj.bias",
        ),
        ("mit_b0", {"layer1.weight": torch.zeros(1)}, r"no SegFormer weights in a known layout; .*\['layer1.weight'\]"),
    ],
)
def test_a_misfit_is_refused_and_nothing_is_loaded(size, state, message):
    model = SegFormer(size)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_segformer_weights(model, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_other_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pth: no such file"):
        load_segformer_weights(SegFormer(), tmp_path / "none.pth")
    for name in ("torn.pth", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
        with pytest.raises(ValueError, match=f"{name}: cannot be read as a checkpoint"):
            load_segformer_weights(SegFormer(), tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="list.pth: holds a list, wanted a dict of tensors"):
        load_segformer_weights(SegFormer(), tmp_path / "list.pth")
    with pytest.raises(TypeError, match="Linear has no MixVisionTransformer"):
        load_segformer_weights(nn.Linear(2, 2), {})
    model = SegFormer().eval()
    model.head.fuse_()
    with pytest.raises(ValueError, match=r"load before fuse_\(\)"):
        load_segformer_weights(model, meta("mit_b0"))


def test_egformer_with_one_sensor_is_the_loaded_segformer_and_other_stems_start_from_it():
    source = fill(SegFormer()).float()
    model = EGFormer("mit_b0", 7, {"rgb": 3, "radar": 2}).eval()
    load_segformer_weights(model, to_layout(source.state_dict(), "hugging face"))
    torch.testing.assert_close(
        model.inputs.stems["radar"].proj.weight, 1.5 * source.encoder.patch_embed1.proj.weight[:, :2]
    )
    image = torch.randn(1, 3, 64, 64)
    wanted = nn.functional.interpolate(source(image), (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model({"rgb": image}), wanted)
