"""What the attention kernels share: loading a tile of tokens, reading a slot, a matrix product."""

import triton
import triton.language as tl

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def load_tokens(x, n, count, x_n, d, x_d, D: tl.constexpr, D_PAD: tl.constexpr, UPCAST: tl.constexpr):
    """Tokens n < count as a tile (tokens, D_PAD), zeros beyond; in float32 where the interpreter needs it.

    In a loop n stays and x moves: that keeps one set of offsets in registers.
    """
    inside = (n < count)[:, None]
    if D < D_PAD:
        inside = inside & (d < D)[None, :]
    tile = tl.load(x + n[:, None] * x_n + d[None, :] * x_d, mask=inside, other=0.0)
    if UPCAST:
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def load_slot(index, bias, b, j, slots, modalities, keys, dtype: tl.constexpr):
    """Slot j of sample b: its modality, its bias in base 2, and how many tokens to look at: 0 in a slot that is
    padded, out of range, or of bias -inf."""
    if index is None:  # noqa: SIM108 (a None pointer exists at compile time only)
        m = (b * 0 + j).to(tl.int64)
    else:
        m = tl.load(index + b * slots + j)
    kept = (m >= 0) & (m < modalities)
    prior = tl.full((), 0.0, dtype)
    if bias is not None:
        prior = tl.load(bias + b * slots + j).to(dtype) * 1.4426950408889634
        kept = kept & (prior != float("-inf"))
    return m, prior, tl.where(kept, keys, 0)


@triton.jit
def product(a, b, PRECISION: tl.constexpr, dtype: tl.constexpr):
    return tl.dot(a, b, input_precision=PRECISION, out_dtype=dtype)
