"""How each program names a SegFormer's tensors, written down apart from the library's own table."""

from __future__ import annotations

import re

import torch


def less_one(text: str):
    return lambda match: text.format(int(match[1]) - 1)


HEAD_RULES = [
    ("^head", "decode_head"),
    ("fuse.conv", "fuse"),
    ("linear_fuse.bn", "batch_norm"),
    ("linear_pred", "classifier"),
]
# How each writer names a tensor of ours, as rules of this test's own: (pattern, replacement), all applied in turn.
RULES = {
    "egformer": [],
    "original": [("^encoder", "backbone"), ("^head", "decode_head")],
    "original encoder": [("^encoder.", "")],
    "smp": [
        (r"^head.linear_c(\d).proj", lambda match: f"decoder.mlp_stage.{4 - int(match[1])}.linear"),
        ("^head.linear_fuse.conv", "decoder.fuse_stage.0"),
        ("^head.linear_fuse.bn", "decoder.fuse_stage.1"),
        ("^head.linear_pred", "segmentation_head.0"),
    ],
    "hugging face": [
        (r"attn\.norm", "attention.self.layer_norm"),
        (r"patch_embed(\d).norm", less_one("patch_embeddings.{}.layer_norm")),
        (r"patch_embed(\d)", less_one("patch_embeddings.{}")),
        (r"^encoder\.norm(\d)", less_one("encoder.layer_norm.{}")),
        (r"\.norm(\d)", r".layer_norm_\1"),
        (r"block(\d)", less_one("block.{}")),
        (r"attn\.sr", "attention.self.sr"),
        (r"attn\.q", "attention.self.query"),
        (r"attn\.proj", "attention.output.dense"),
        (r"mlp\.fc", "mlp.dense"),
        ("^encoder", "segformer.encoder"),
        *HEAD_RULES,
        (r"linear_c(\d)", less_one("linear_c.{}")),
    ],
    "hugging face 5": [
        (r"attn\.norm", "attention.sequence_reduction.layer_norm"),
        (r"attn\.sr", "attention.sequence_reduction.sequence_reduction"),
        (r"attn\.q", "attention.q_proj"),
        (r"attn\.proj", "attention.o_proj"),
        (r"^encoder.patch_embed(\d).norm", less_one("segformer.stages.{}.patch_embeddings.layer_norm")),
        (r"^encoder.patch_embed(\d)", less_one("segformer.stages.{}.patch_embeddings")),
        (r"^encoder.norm(\d)", less_one("segformer.stages.{}.layer_norm")),
        (r"^encoder.block(\d)", less_one("segformer.stages.{}.blocks")),
        ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"),
        *HEAD_RULES,
        (r"linear_c(\d)", less_one("linear_projections.{}")),
    ],
}
RULES["hugging face encoder"] = [*RULES["hugging face"], (r"^segformer\.", "")]
KEY_VALUE = {"hugging face 5": ("attention.k_proj", "attention.v_proj")}


def to_layout(state: dict[str, torch.Tensor], layout: str) -> dict[str, torch.Tensor]:
    """The state dict of a SegFormer as `layout` writes it."""
    result = {}
    for name, tensor in state.items():
        if layout.endswith("encoder") and name.startswith("head."):
            continue
        for pattern, replacement in RULES[layout]:
            name = re.sub(pattern, replacement, name)
        if "attn.kv" in name and layout.startswith("hugging face"):
            parts = KEY_VALUE.get(layout, ("attention.self.key", "attention.self.value"))
            result |= {name.replace("attn.kv", p): half for p, half in zip(parts, tensor.chunk(2), strict=True)}
        else:
            result[name] = tensor
    return result
