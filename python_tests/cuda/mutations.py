"""The faults that mutate.py seeds: file, a text that occurs in it once, and what replaces it. A mutation that changes
no result in any schedule (a barrier that another one makes superfluous) has no place here."""

from __future__ import annotations

from dataclasses import dataclass

SCORE, MLP = "cuda/modality_score.cu", "include/score_mlp.cuh"
DROP, SELECTION = "cuda/modality_drop.cu", "include/selection.cuh"
ATTENTION, BACKWARD = "cuda/modality_attention.cu", "cuda/modality_attention_backward.cu"
PRODUCTS, TILES, SUMS = (f"include/attention_{part}.cuh" for part in ("products", "tiles", "sums"))
OPS = {
    "modality_score": (SCORE, MLP),
    "modality_drop": (DROP, SELECTION),
    "modality_attention": (ATTENTION, BACKWARD, PRODUCTS, TILES, SUMS),
}


@dataclass(frozen=True)
class Mutation:
    file: str
    old: str
    new: str

    @property
    def op(self) -> str:
        return next(op for op, files in OPS.items() if self.file in files)

    @property
    def fields(self) -> dict[str, str]:
        return {"file": self.file, "old": self.old, "new": self.new}

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(self.fields.values())


MUTATIONS = [
    Mutation(*entry)
    for entry in (
        (SCORE, "sum[i]);\n  __syncthreads();", "sum[i]);"),
        (SCORE, "bits >= columns", "bits > columns"),
        (SCORE, "!present[map]) return;", "!present[map] && map < 0) return;"),
        (SCORE, "split < splits", "split + 1 < splits"),
        (SCORE, "other < rows", "other + 1 < rows"),
        (SCORE, "  prefetch_mlp<kHeadThreads>(weights, shape);\n  wait_for_previous();\n", ""),
        (MLP, "if (first + j * kWarps >= hidden) break;", ""),
        (MLP, "logits[warp] = logit;\n  __syncthreads();", "logits[warp] = logit;"),
        (SCORE, "finite && isfinite(logit)", "finite"),
        (SCORE, "(sigmoid(logit) * (1 - sigmoid(logit)))", "sigmoid(logit)"),
        (SCORE, "    if (saved.alive[map] == 0) continue;\n", ""),
        (MLP, " + x * expf(-x * x / 2) * 0.39894228040143267794f", ""),
        (SCORE, "alive = isfinite(logit);", ""),
        (SELECTION, "other == value && m < lane", "other == value && m > lane"),
        (SELECTION, "score >= scores.threshold * best", "score > scores.threshold * best"),
        (SELECTION, "  if (isnan(mean)) mean = -INFINITY;\n", ""),
        (SELECTION, "total > 0 ? score / total", "true ? score / total"),
        (SELECTION, "rank < shape.keep", "rank <= shape.keep"),
        (DROP, "select(scores, shape, sample, chosen);\n  __syncthreads();", "select(scores, shape, sample, chosen);"),
        (DROP, "(sample * keep + first + j) * width", "(sample * keep + j) * width"),
        (DROP, "result.value[e] += share", "result.value[e] = share"),
        (DROP, "    dot = warp_sum(dot);\n", ""),
        (DROP, "held && total > 0", "held"),
        (DROP, "(share - mean) / total", "(share + mean) / total"),
        (DROP, "slot >= 0 && gradients.d_survivors.data", "slot >= -1 && gradients.d_survivors.data"),
        # The walk over the slots, and what is read of memory.
        (TILES, "return m >= 0 && m < p.modalities ? m : -1;", "return m >= 0 ? m % p.modalities : -1;"),
        (TILES, "first_tile(p, sample, at.slot + 1)", "first_tile(p, sample, at.slot + 2)"),
        (TILES, "round * kStep < rows", "round * kStep <= rows"),
        (TILES, "kStep % 8 == 0 ?", "true ?"),
        (TILES, "row / kRowsOfLine & kMask", "row / kRowsOfLine & kMask & 0"),
        (TILES, "blockIdx.x % tiles * rows}", "blockIdx.x % tiles * (rows - 1)}"),
        # Forward.
        (ATTENTION, "    cp_async_wait<0>();\n    __syncthreads();  // keys are there", "    __syncthreads();  //"),
        (ATTENTION, "    __syncthreads();  // values are there, and no warp still reads keys\n", ""),
        (ATTENTION, "prior_of(p, at.sample, tile.slot)", "prior_of(p, at.sample, tile.modality)"),
        (ATTENTION, "scale = scale_products(logits, scale)", "scale = 0.0f"),
        (ATTENTION, "total[i] * fade + sum", "total[i] + sum"),
        (ATTENTION, "next == -INFINITY ? 0.0f : next", "next"),
        (ATTENTION, "largest[i] + logf(sum)", "logf(sum)"),
        # Products of tiles: both kinds, tensor cores, plain FMA.
        (PRODUCTS, "P::column(j) >= count", "P::column(j) > count"),
        (PRODUCTS, "pack<T>(low[2], low[3])", "pack<T>(low[3], low[2])"),
        (PRODUCTS, "16 * n + lane() / 16 * 8 + lane() % 8", "16 * n + lane() % 16"),
        (PRODUCTS, "    __syncwarp();\n    for (int i = lane()", "    for (int i = lane()"),
        (PRODUCTS, "    __syncwarp();\n    for (int key = x()", "    for (int key = x()"),
        (PRODUCTS, "left.w, right[j].w, sum", "left.w, right[j].z, sum"),
        # Backward.
        (SUMS, "lse == -INFINITY ? INFINITY : lse", "lse"),
        (SUMS, "total[e] += four.value[e]", "total[e] = four.value[e]"),
        (SUMS, "sums[threadIdx.x / 32] = value;\n  __syncthreads();", "sums[threadIdx.x / 32] = value;"),
        (SUMS, "kept && i < partials", "(kept || true) && i < partials"),
        (BACKWARD, "slot = slot_naming(p, at.sample, at.modality, slot + 1)", "slot = p.slots"),
        (BACKWARD, "tiles * at.part / plan.parts", "int64_t{0}"),
        (BACKWARD, "__syncthreads();  // this tile is there", "//"),
        (BACKWARD, "(d_logits.at(i, j) - delta_j)", "(d_logits.at(i, j) + delta_j)"),
        (BACKWARD, "sums.d_k.scale_row(i, p.scale)", "sums.d_k.scale_row(i, 1.0f)"),
        (BACKWARD, "P::row(i) < p.keys ? sums[i] : 0.0f", "P::row(i) < p.keys ? sums[i] : sums[i]"),
        (BACKWARD, "if (count < kKeys)", "if (count < 0)"),
        (BACKWARD, "lse(stage) + kQueries", "lse(stage) + kQueries / 2"),
    )
]
