"""Public SegFormer checkpoints into EGFormer or its encoder: names, files, and a report of what was loaded.

Ours are the names of the original release; the other layouts map one to one, but for Hugging Face, whose key and value
matrices are the halves of kv (key first). Layouts of a file, found by which one names most of its tensors:

    layout                encoder             head                          written by
    original              backbone.           decode_head.                  NVlabs SegFormer
    original encoder                                                        NVlabs mit_b*.pth (ImageNet)
    hugging face          segformer.encoder.  decode_head.                  files of transformers
    hugging face encoder  encoder.                                          files of its SegformerModel
    hugging face 5        segformer.stages.   decode_head.                  state_dict() in transformers 5
    smp                   encoder.            decoder., segmentation_head.  segmentation_models_pytorch
    egformer              encoder.            head.                         this project

OpenMMLab's own port (backbone.layers.) has another head (a BatchNorm and a ReLU per level) and is not read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egformer_fast.models.head import LEVELS, AllMLPHead
from egformer_fast.models.inputs import SensorInputs
from egformer_fast.models.mit import STAGES, MiTConfig, MixVisionTransformer

# Ours -> Hugging Face's files -> transformers 5 in memory; {s} counts stages from 1, {i} from 0, {j} counts blocks.
_STAGE_MODULES = (
    ("patch_embed{s}.proj", "patch_embeddings.{i}.proj", "{i}.patch_embeddings.proj"),
    ("patch_embed{s}.norm", "patch_embeddings.{i}.layer_norm", "{i}.patch_embeddings.layer_norm"),
    ("norm{s}", "layer_norm.{i}", "{i}.layer_norm"),
)
_BLOCK_MODULES = (
    ("norm1", "layer_norm_1", "layernorm_before"),
    ("attn.q", "attention.self.query", "attention.q_proj"),
    ("attn.kv", "attention.self.key|attention.self.value", "attention.k_proj|attention.v_proj"),
    ("attn.proj", "attention.output.dense", "attention.o_proj"),
    ("norm2", "layer_norm_2", "layernorm_after"),
    ("mlp.fc1", "mlp.dense1", "mlp.fc1"),
    ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv", "mlp.dwconv.dwconv"),
    ("mlp.fc2", "mlp.dense2", "mlp.fc2"),
)
_REDUCTION_MODULES = (
    ("attn.sr", "attention.self.sr", "attention.sequence_reduction.sequence_reduction"),
    ("attn.norm", "attention.self.layer_norm", "attention.sequence_reduction.layer_norm"),
)
_BLOCK_PREFIXES = ("block{s}.{j}.", "block.{i}.{j}.", "{i}.blocks.{j}.")
# Head: {s} counts levels from 1, {i} from 0, {r} from 0 at the coarsest.
_HEAD_MODULES = {
    "original": ("linear_c{s}.proj", "linear_fuse.conv", "linear_fuse.bn", "linear_pred"),
    "hugging face": ("linear_c.{i}.proj", "linear_fuse", "batch_norm", "classifier"),
    "hugging face 5": ("linear_projections.{i}.proj", "linear_fuse", "batch_norm", "classifier"),
    "smp": ("decoder.mlp_stage.{r}.linear", "decoder.fuse_stage.0", "decoder.fuse_stage.1", "segmentation_head.0"),
}
# layout: (encoder prefix, column of the encoder's names, head prefix, head modules)
LAYOUTS: dict[str, tuple[str, int, str, str]] = {
    "original": ("backbone.", 0, "decode_head.", "original"),
    "original encoder": ("", 0, "decode_head.", "original"),
    "hugging face": ("segformer.encoder.", 1, "decode_head.", "hugging face"),
    "hugging face encoder": ("encoder.", 1, "decode_head.", "hugging face"),
    "hugging face 5": ("segformer.stages.", 2, "decode_head.", "hugging face 5"),
    "smp": ("encoder.", 0, "", "smp"),
    "egformer": ("encoder.", 0, "head.", "original"),
}
_BN_STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Tensors that a SegFormer file may have and no segmentation model uses: ImageNet classifiers, mmseg's unused one.
_UNUSED = ("head.", "classifier.", "decode_head.conv_seg.")


@dataclass
class LoadReport:
    """What load_segformer_weights did; names are ours, but for `unexpected`, which are the file's."""

    layout: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.mismatched)} of another shape"
        text = f"layout {self.layout!r}: {counts}, {len(self.unexpected)} unexpected"
        return "; ".join([text, *self.notes])


def encoder_names(config: MiTConfig, layout: str) -> dict[str, tuple[str, ...]]:
    """Ours -> the layout's name for each tensor of an encoder; two names are halves, one on top of the other."""
    prefix, column = LAYOUTS[layout][:2]
    names: dict[str, tuple[str, ...]] = {}

    def add(row: tuple[str, ...], stage: int, block: int, before: tuple[str, ...] = ("", "", "")) -> None:
        numbers = {"s": stage + 1, "i": stage, "j": block}
        ours = (before[0] + row[0]).format(**numbers)
        theirs = [prefix + (before[column] + part).format(**numbers) for part in row[column].split("|")]
        for kind in ("weight", "bias"):
            names[f"{ours}.{kind}"] = tuple(f"{part}.{kind}" for part in theirs)

    for stage in range(STAGES):
        for row in _STAGE_MODULES:
            add(row, stage, 0)
        for block in range(config.depths[stage]):
            for row in _BLOCK_MODULES + (_REDUCTION_MODULES if config.reductions[stage] > 1 else ()):
                add(row, stage, block, _BLOCK_PREFIXES)
    return names


def head_names(layout: str) -> dict[str, tuple[str, ...]]:
    """Ours -> the layout's name for each tensor of a head that is not fused."""
    prefix, modules = LAYOUTS[layout][2:]
    names: dict[str, tuple[str, ...]] = {}
    kinds = (("weight", "bias"), ("weight",), _BN_STATE, ("weight", "bias"))
    for ours, theirs, suffixes in zip(_HEAD_MODULES["original"], _HEAD_MODULES[modules], kinds, strict=True):
        for level in range(LEVELS) if "{s}" in ours else (0,):
            numbers = {"s": level + 1, "i": level, "r": LEVELS - 1 - level}
            for suffix in suffixes:
                names[f"{ours.format(**numbers)}.{suffix}"] = (f"{prefix}{theirs.format(**numbers)}.{suffix}",)
    return names


def load_segformer_weights(model: nn.Module, source: str | Path | Mapping[str, Any], head: bool = True) -> LoadReport:
    """Load a SegFormer checkpoint, in any layout above, into an EGFormer or a MixVisionTransformer, in place.

    All or nothing: every check comes before the first tensor is copied. EGFormer's own patch embeddings (modalities
    with other than 1 or 3 channels) are started anew from the loaded one.

    Args:
        model: has `encoder` and, where a head is to be loaded, `head`; or is an encoder itself.
        source: a .safetensors file, a file for torch.load (read with weights_only=True), or a state dict; what lies
            in a nested "state_dict" or "model" is found.
        head: load the head too, where the file has one. A classifier for another number of classes is left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read, or is of no known layout, or does not fit the encoder or (with head) the
            head; the message gives the first names.
        TypeError: model has no MixVisionTransformer.
    """
    encoder = getattr(model, "encoder", model)
    if not isinstance(encoder, MixVisionTransformer):
        raise TypeError(f"load_segformer_weights: {type(model).__name__} has no MixVisionTransformer as its encoder")
    decoder = getattr(model, "head", None)
    if head and isinstance(decoder, AllMLPHead) and decoder.fused:
        raise ValueError("load_segformer_weights: the head is folded; load before fuse_(), or pass head=False")
    where = "the state dict" if isinstance(source, Mapping) else str(source)
    state = _unwrapped(source if isinstance(source, Mapping) else read_checkpoint(source))
    layout, table = _recognised(state, encoder.config, where)
    in_file = {ours for ours, names in table.items() if any(name in state for name in names)}
    known = {name for ours in in_file for name in table[ours]}
    report = LoadReport(layout)
    report.unexpected = [name for name in state if name not in known and not name.startswith(_UNUSED)]
    targets = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    beyond = sorted(ours for ours in in_file if ours.startswith("encoder.") and ours not in targets)
    has_head = any(ours.startswith("head.") for ours in in_file)
    if head and has_head and isinstance(decoder, AllMLPHead):
        targets |= {f"head.{name}": tensor for name, tensor in decoder.state_dict().items()}
    else:
        report.notes.append("the file's head is left out" if has_head else "the file has no head")
    found = _matched(targets, table, state, report)
    _refuse_misfit(report, beyond, f"{where} (layout {layout!r}) and {encoder.config.name}")
    with torch.no_grad():
        for name in report.loaded:
            targets[name].copy_(found[name])
    inputs = getattr(model, "inputs", None)
    if isinstance(inputs, SensorInputs):
        inputs.restart_stems()
    return report


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """What lies in a .safetensors file, or in a file of torch.save (tensors and plain values only).

    Raises:
        FileNotFoundError: no such file. ValueError: the file cannot be read; both name it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; wanted a .safetensors or .pth checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(path)
            except SafetensorError as error:
                raise ValueError(str(error)) from None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, wanted a dict of tensors")
    return content


def _unwrapped(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without what training tools put around them."""
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            return _unwrapped(content[key])
    return {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}


def _recognised(state: Mapping[str, Tensor], config: MiTConfig, where: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    """The layout that names most of the file's tensors, and its names for ours, "encoder." and "head." in front.

    The table goes to more blocks than any model has, so that a deeper file is told from a fitting one.
    """
    deep = replace(config, depths=(64,) * STAGES)
    best: tuple[int, str, dict[str, tuple[str, ...]]] = (0, "", {})
    for layout in LAYOUTS:
        table = {f"encoder.{ours}": names for ours, names in encoder_names(deep, layout).items()}
        table |= {f"head.{ours}": names for ours, names in head_names(layout).items()}
        hits = sum(name in state for names in table.values() for name in names)
        if hits > best[0]:
            best = (hits, layout, table)
    if best[0] == 0:
        raise ValueError(f"{where}: no SegFormer weights in a known layout; its first names are {list(state)[:3]}")
    return best[1], best[2]


def _matched(
    targets: Mapping[str, Tensor],
    table: Mapping[str, tuple[str, ...]],
    state: Mapping[str, Tensor],
    report: LoadReport,
) -> dict[str, Tensor]:
    """The file's tensors under our names; fills the report."""
    found = {}
    for ours, target in targets.items():
        parts = [state[name] for name in table[ours] if name in state]
        # Files older than BatchNorm's counter lack it, and nothing is computed from it here.
        if len(parts) < len(table[ours]) and not ours.endswith("num_batches_tracked"):
            report.missing.append(ours)
        elif parts:
            tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
            if tensor.shape == target.shape:
                found[ours] = tensor
                report.loaded.append(ours)
            else:
                report.mismatched.append(f"{ours} {tuple(tensor.shape)}, wanted {tuple(target.shape)}")
    return found


def _refuse_misfit(report: LoadReport, beyond: list[str], pair: str) -> None:
    """Errors for what may not be left out; a note for a classifier of other classes."""
    wrong = [("missing", report.missing), ("of another shape", report.mismatched)]
    counts = [(kind, [name for name in names if name.startswith("encoder.")]) for kind, names in wrong]
    counts.append(("not in the model", beyond))
    if any(names for _, names in counts):
        raise ValueError(f"{pair} do not fit: encoder tensors {_told(counts)}")
    counts = [(kind, [n for n in names if not n.startswith("head.linear_pred.")]) for kind, names in wrong]
    if any(names for _, names in counts):
        raise ValueError(f"{pair}: the heads do not fit (head=False leaves it out): {_told(counts)}")
    if report.missing or report.mismatched:
        report.notes.append(f"the classifier is left out: {'; '.join(report.missing + report.mismatched)}")


def _told(counts: list[tuple[str, list[str]]]) -> str:
    return "; ".join(f"{len(names)} {kind}: {', '.join(names[:3])}" for kind, names in counts if names)
