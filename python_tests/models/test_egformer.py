"""EGFormer in both flows: any subset of sensors, any size, what the Trace says, SegFormer as its one-sensor case."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from egformer_fast.models import EGFormer, default_keep, egformer_b0
from egformer_fast.models.flow import FLOWS
from egformer_fast.models.inputs import all_finite

NAMES = ("rgb", "depth", "event", "lidar")
# One stream; survivors beside it; every sensor through the encoder.
SHAPES = [{}, {"keep": (3, 2, 1, 1)}, {"flow": "separate"}]
shapes = pytest.mark.parametrize("options", SHAPES, ids=["merged", "beside", "separate"])


def small(modalities=NAMES, **options) -> EGFormer:
    """B0 with every silent part woken: proj and the sensor embedding start at zero, and stems are alike."""
    model = egformer_b0(num_classes=5, modalities=modalities, **{"drop_path": 0.0, "dropout": 0.0, **options}).eval()
    with torch.no_grad():
        if model.inputs.sensor_embedding is not None:
            model.inputs.sensor_embedding.normal_()
        for stem in model.inputs.stems.values():
            stem.norm.bias.normal_()
        for fusion in model.fusion:
            fusion.attention.proj.weight.normal_(std=0.1)
    return model


def frame(names=NAMES, batch=2, size=(64, 64), channels=3):
    return {name: torch.randn(batch, channels, *size) for name in names}


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("modalities", "keep"), [(1, (1, 1, 1, 1)), (2, (2, 1, 1, 1)), (4, (3, 2, 1, 1)), (8, (4, 2, 1, 1))]
)
def test_default_keep(modalities, keep):
    assert default_keep(modalities, "separate") == keep
    assert default_keep(modalities) == (modalities, 0, 0, 0)


@torch.inference_mode()
@shapes
def test_absent_key_masked_sensor_and_nan_sensor_are_the_same(options):
    model, inputs = small(**options), frame()
    absent = {name: image for name, image in inputs.items() if name != "depth"}
    expected, expected_trace = model(absent, trace=True)
    present = torch.tensor([[True, False, True, True]] * 2)
    masked, trace = model(inputs, present, trace=True)
    close(masked, expected)
    assert not trace.kept_mask(0)[:, 1].any()
    assert trace.score_table(0)[:, 1].isnan().all()
    assert torch.equal(trace.kept_mask(0), expected_trace.kept_mask(0))
    broken = {**inputs, "depth": inputs["depth"].clone()}
    broken["depth"][:, 1, 3, 5] = math.nan
    close(model(broken), expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.4e38])
def test_one_value_that_is_not_finite_is_seen(value):
    image = torch.randn(3, 2, 32, 32)
    image[1, 1, 31, 0] = value
    assert all_finite(image).tolist() == [True, math.isfinite(value), True]


@torch.inference_mode()
@shapes
def test_sensors_are_missing_per_sample(options):
    model, inputs = small(**options), frame()
    present = torch.tensor([[True, False, False, True], [False, True, True, True]])
    together = model(inputs, present)
    for b in range(2):
        alone = model({name: image[b : b + 1] for name, image in inputs.items()}, present[b : b + 1])
        close(together[b : b + 1], alone)


@torch.inference_mode()
@shapes
def test_order_of_the_dict_does_not_matter(options):
    model, inputs = small(**options), frame()
    assert torch.equal(model(inputs), model(dict(reversed(inputs.items()))))


@torch.inference_mode()
@shapes
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 96), (100, 36)])
def test_any_size(size, options):
    logits = small(**options)(frame(batch=1, size=size))
    assert logits.shape == (1, 5, *size)
    assert logits.isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize("flow", FLOWS)
def test_one_sensor_is_segformer(flow):
    """A fresh model (proj and sensor embedding at zero): encoder, head, upsampling and nothing else."""
    model = egformer_b0(5, ["rgb"], flow=flow).eval()
    image = torch.randn(2, 3, 64, 96)
    expected = F.interpolate(model.head(model.encoder(image)), (64, 96), mode="bilinear", align_corners=False)
    close(model({"rgb": image}), expected)


@torch.inference_mode()
def test_one_channel_is_repeated_and_other_counts_have_their_own_stem():
    model = small({"rgb": 3, "sar": 1, "stokes": 5}, keep=(3, 3, 3, 3), flow="separate")
    assert set(model.inputs.stems) == {"stokes"}
    inputs = {"rgb": torch.randn(1, 3, 64, 64), "sar": torch.randn(1, 1, 64, 64), "stokes": torch.randn(1, 5, 64, 64)}
    assert model(inputs).shape == (1, 5, 64, 64)
    other = small({"rgb": 3, "sar": 3, "stokes": 5}, keep=(3, 3, 3, 3), flow="separate")
    other.load_state_dict(model.state_dict())
    close(model(inputs), other({**inputs, "sar": inputs["sar"].expand(-1, 3, -1, -1)}))


def test_own_stem_starts_from_the_shared_one():
    """An image that shows the same in every channel gives the same tokens through either."""
    model = egformer_b0(5, {"rgb": 3, "stokes": 6, "sar": 1})
    with torch.no_grad():
        model.encoder.patch_embed1.proj.weight.normal_()
        model.inputs.restart_stems()
    gray = torch.randn(1, 1, 64, 64)
    shared, _ = model.encoder.patch_embed(0, gray.expand(-1, 3, -1, -1))
    for name, channels in (("rgb", 3), ("stokes", 6), ("sar", 1)):
        own, _ = model.encoder.patch_embed(0, gray.expand(-1, channels, -1, -1), model.inputs.stems[name])
        close(own, shared)


@torch.inference_mode()
@shapes
def test_trace_tells_sensors_not_slots(options):
    model, inputs = small(threshold=0.0, **options), frame(batch=3)
    present = torch.tensor([[True] * 4, [False, True, True, True], [False, True, False, False]])
    _, trace = model(inputs, present, trace=True)
    assert trace.modalities == NAMES
    alive, prior = present, torch.ones(3, 4)
    assert len(trace.stages) == model.stages == (4 if options else 1)
    for stage, keep in enumerate(model.keep[: model.stages]):
        kept = trace.kept_mask(stage)
        assert not (kept & ~alive).any(), "kept a sensor that an earlier stage had dropped"
        assert kept.sum(1).tolist() == [min(keep, int(count)) for count in alive.sum(1)]
        table = trace.score_table(stage)
        assert torch.equal(table.isnan(), ~alive)
        weights = trace.weight_table(stage)
        torch.testing.assert_close(weights.sum(1), torch.ones(3))
        assert torch.equal(weights > 0, kept)
        evidence = table * prior
        for b in range(3):
            lowest_kept = evidence[b][kept[b]].min()
            assert all(value <= lowest_kept for value in evidence[b][alive[b] & ~kept[b]])
        alive, prior = kept, weights


@torch.inference_mode()
@pytest.mark.parametrize("flow", FLOWS)
def test_keep_can_change_per_call(flow):
    model, inputs = small(keep=(3, 2, 1, 1), flow=flow, threshold=0.0), frame()
    _, trace = model(inputs, keep=(4, 4, 3, 2), trace=True)
    assert [int(trace.kept_mask(stage).sum(1)[0]) for stage in range(4)] == [4, 4, 3, 2]
    wide = small(keep=(4, 4, 3, 2), flow=flow, threshold=0.0)
    wide.load_state_dict(model.state_dict())
    assert torch.equal(wide(inputs), model(inputs, keep=(4, 4, 3, 2)))


@torch.inference_mode()
def test_compact_cuts_padded_slots_only():
    model, inputs = small(threshold=0.99, flow="separate"), frame()
    present = torch.tensor([[True, False, True, True], [True, False, False, True]])
    expected = model(inputs, present)
    model.compact = True
    logits, trace = model(inputs, present, trace=True)
    close(logits, expected)
    assert trace.stages[0].kept.shape[1] < 3
    assert model(frame(batch=0)).shape == (0, 5, 64, 64)


@torch.inference_mode()
@shapes
def test_batch_rank_keeps_the_same_for_all(options):
    _, trace = small(rank="batch", threshold=0.0, **options)(frame(batch=4), trace=True)
    for stage in range(len(trace.stages)):
        assert (trace.kept_mask(stage) == trace.kept_mask(stage)[:1]).all()


@shapes
def test_fuse_gives_equal_logits(options):
    model = small(**options).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
    inputs = {name: image.double() for name, image in frame().items()}
    with torch.inference_mode():
        expected = model(inputs)
        fused = model.fuse_()(inputs)
    torch.testing.assert_close(fused, expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(RuntimeError, match="cannot be trained; load the model anew"):
        model.train()
    assert not any(module.training for module in model.modules())


@shapes
def test_every_parameter_gets_a_gradient_and_a_group(options):
    model = small({"rgb": 3, "depth": 1, "stokes": 5}, **options).train()
    inputs = {"rgb": torch.randn(2, 3, 64, 64), "depth": torch.randn(2, 1, 64, 64), "stokes": torch.randn(2, 5, 64, 64)}
    model(inputs).square().mean().backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in learning.items() if p.grad is None] == []
    still = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert all(name.startswith("encoder.patch_embed1.") for name in still), "more than the start of the stems"
    groups = model.parameter_groups(0.01)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in learning.values())
    decayed = {id(p) for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    matrices = {id(p) for p in learning.values() if p.dim() > 1}
    assert decayed == matrices - {id(model.inputs.sensor_embedding)}


@shapes
def test_a_dead_sensor_does_not_blow_up_the_first_gradients(options):
    """Fresh weights, a sensor that reads zeros: LayerNorm of a zero token would multiply gradients by a thousand."""
    model, inputs = egformer_b0(5, NAMES, **options).train(), frame()
    inputs["lidar"] = torch.zeros_like(inputs["lidar"])
    model(inputs, keep=model.widest).square().mean().backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert norm < 1e3, f"gradient norm {norm}"


@pytest.mark.parametrize(("flow", "keep"), [("merged", (1, 0, 0, 0)), ("separate", (1, 1, 1, 1))])
def test_early_fusion_is_one_stacked_sensor(flow, keep):
    model = small({"s2": 3, "s1": 1}, early_fusion=True, flow=flow)
    assert model.keep == keep
    assert model.inputs.stems["stacked"].proj.weight.shape[1] == 4
    s2, s1 = torch.randn(2, 3, 64, 64), torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        logits, trace = model({"s2": s2, "s1": s1}, trace=True)
        assert trace.modalities == ("stacked",)
        zeros = model({"s2": s2, "s1": torch.zeros_like(s1)})
        close(model({"s2": s2}), zeros)
        assert not torch.equal(zeros, logits)


@shapes
def test_export_and_fullgraph(options):
    model, inputs = small(**options), frame(batch=1)
    with torch.no_grad():
        expected = model(inputs)
        close(torch.export.export(model, (inputs,)).module()(inputs), expected)
        close(torch.compile(model, fullgraph=True, backend="aot_eager")(inputs), expected)


@shapes
def test_export_for_any_batch_and_size(options):
    model = small(("rgb", "depth"), **options)
    model.validate = False
    batch, height, width = (torch.export.Dim(name, min=low, max=8) for name, low in (("b", 1), ("h", 3), ("w", 3)))
    shape = dict.fromkeys(("rgb", "depth"), {0: batch, 2: 32 * height, 3: 32 * width})
    with torch.no_grad():
        example = frame(model.modalities, size=(128, 160))
        program = torch.export.export(model, (example,), dynamic_shapes=(shape,)).module()
        for count, size in ((1, (96, 128)), (3, (160, 96))):
            inputs = frame(model.modalities, count, size)
            close(program(inputs), model(inputs))
