"""Faults to put into the Triton kernels, a line each: (module, text that occurs once in it, what replaces it)."""

from __future__ import annotations

from pathlib import Path

KERNELS = Path(__file__).parents[2] / "egformer_fast" / "triton"
SCORE, DROP, ATTENTION = "modality_score", "modality_drop", "modality_attention"
BACKWARD, MATH = "_attention_backward", "_attention_math"
POOL = (
    "        total = _sum_rows(source, first, last, x_n, c, x_c, c < channels, partial.dtype.element_ty, ROWS, COLS)\n"
)
VALUES = "        values = tl.load(source + m.to(tl.int64) * x_m, mask=inside & (m >= 0), other=0.0)\n"
V_TILE = "            v_tile = load_tokens(v_slot + start * v_n, t, count - start, v_n, d, v_d, D, D_PAD, UPCAST)\n"
FAULTS: list[tuple[str, str, str]] = [
    (SCORE, "mask=inside & (n < count)[None, :, None]", "mask=inside & (n < count - 1)[None, :, None]"),
    (SCORE, "tl.where(here, value, 0.0)", "value"),
    (SCORE, "(broken == 0) & ", ""),
    (SCORE, "tl.sum(total, 1) / tokens", "tl.sum(total, 1) / count"),
    (SCORE, POOL, POOL + POOL),  # loads twice: for the tests of traffic alone
    (SCORE, "(s * (1.0 - s))", "s"),
    (SCORE, "    mean = tl.where(alive, mean, 0.0)\n", ""),
    (SCORE, 'mean = tl.where(tl.abs(mean) < float("inf"), mean, 0.0)', "mean = mean"),
    (DROP, "(m[None, :] < m[:, None])", "(m[None, :] > m[:, None])"),
    (DROP, "s >= to_type(threshold", "s > to_type(threshold"),
    (DROP, "mask=inside & (m >= 0)", "mask=inside"),
    (DROP, VALUES, VALUES + VALUES),
    (DROP, "(count > 0) & (mean == mean)", "(count > 0)"),
    (DROP, "(d_share - mean) /", "(d_share + mean) /"),
    (DROP, "tile, dot, mask=held)", "tile, dot)"),
    (DROP, "gradient = tl.where(held, gradient, 0.0)", "gradient = gradient"),
    (ATTENTION, "total = total * fade + ", "total = total + "),
    (ATTENTION, " * factor + prior", " * factor"),
    (ATTENTION, V_TILE, V_TILE + V_TILE),
    (MATH, "(m >= 0) & (m < modalities)", "(m >= 0)"),
    (MATH, "tl.where(kept, keys, 0)", "tl.where(m >= 0, keys, 0)"),
    (BACKWARD, "prior = tl.load(bias + b * slots + j,", "prior = tl.load(bias + j,"),
    (BACKWARD, "other=0.0).to(dtype) * 1.4426950408889634", "other=0.0).to(dtype)"),
    (BACKWARD, "base + tl.log2(tl.where(total == 0, 1.0, total))", "base"),
    (BACKWARD, "mask=j < slots, other=-1) == m", "mask=j < slots, other=0) == m"),
    (BACKWARD, '    prior = tl.where(held, prior, float("-inf"))\n', ""),
    (BACKWARD, 'base = tl.where(largest == float("-inf"), 0.0, largest)', "base = 0.0 * largest"),
    (BACKWARD, "PRECISION, dtype) - mean[:, None])", "PRECISION, dtype))"),
    (BACKWARD, "((b * slots + j) * heads + h) * blocks", "((b * slots + j) * heads) * blocks"),
    (BACKWARD, "PRECISION, dtype) - mean[None, :])", "PRECISION, dtype))"),
    (BACKWARD, "tokens = tl.where(live, keys, 0)", "tokens = keys"),
]
