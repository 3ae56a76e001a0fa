"""keep: how many modalities each of the four stages keeps, the default and the check of what is asked for.

"merged"    keep[0] meet in the stream; keep[1:], which may be 0, survive beside it, and never return from 0
"separate"  keep[i] >= 1 go on from stage i
"""

from __future__ import annotations

from collections.abc import Sequence

from egformer_fast.models.mit import STAGES


def default_keep(modalities: int, flow: str = "merged") -> tuple[int, ...]:
    """Modalities that each stage keeps.

    "merged": all that the threshold leaves, (M, 0, 0, 0). "separate": max(1, round(M ** ((2 - i) / 3))); (3, 2, 1, 1)
    for four.
    """
    if flow == "merged":
        return (modalities, 0, 0, 0)
    return tuple(max(1, round(modalities ** ((2 - stage) / 3))) for stage in range(STAGES))


def checked_keep(
    keep: Sequence[int] | None, flow: str, most: int, built: Sequence[int] | None = None
) -> tuple[int, ...]:
    """keep as four numbers of at most `most`, the default for None. built: the keep that a model was built with.

    Raises:
        ValueError: not four whole numbers, too small ones, or survivors where the model has no modules for them.
    """
    if keep is None:
        return default_keep(most, flow)
    is_merged = flow == "merged"
    numbers = list(keep) if isinstance(keep, Sequence) else []
    lows = [0 if is_merged and stage > 0 else 1 for stage in range(STAGES)]
    whole = all(isinstance(k, int) and not isinstance(k, bool) for k in numbers)
    if len(numbers) != STAGES or not whole or any(k < low for k, low in zip(numbers, lows, strict=True)):
        least = ", the first at least 1, the others at least 0" if is_merged else " of at least 1"
        raise ValueError(f"EGFormer: keep must be {STAGES} integers{least}, got {keep!r}")
    if is_merged and any(numbers[stage] == 0 < numbers[stage + 1] for stage in range(1, STAGES - 1)):
        raise ValueError(f"EGFormer: keep must not return from 0, where nothing survives, got {keep!r}")
    if is_merged and built and any(ours == 0 < asked for ours, asked in zip(built[1:], numbers[1:], strict=True)):
        raise ValueError(
            f"EGFormer: keep {keep!r} asks for survivors at a stage that was built without, keep {list(built)}"
        )
    return tuple(min(k, most) for k in numbers)
