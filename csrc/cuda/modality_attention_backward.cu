// modality_attention on CUDA, backward; probabilities are recomputed from lse, in float32:
//
//   p = e^(scale q k^T + bias - lse),  dp = d_out v^T,  ds = p (dp - delta),  delta = sum d_out out
//   d_q = scale ds k,  d_k = scale ds^T q,  d_v = p^T d_out,  d_bias = sum ds
//
// No atomics, sums in a fixed order: the same bits in every run.
//   row_terms   lse and delta of every query, padded with rows whose probabilities are 0
//   d_queries   a block owns a tile of queries and walks over the kept slots, values and keys in one buffer each
//   d_keys      a block owns a tile of keys of one (sample, modality, head) and walks over the slots that name the
//               modality and its part of the queries, two stages of queries and d_out; rows are keys here, so that
//               p^T and ds^T are left operands without a transposition. Modalities without a slot get zeros.
//   sum_parts   d_k and d_v, where the queries were cut into parts (attention_params.h)
//   sum_bias    d_bias from one number a block of d_keys
//
// Read: q, d_out, k, v once by row_terms and once a tile by the two others (from L2 within a head); written: gradients.
//
//   T       D         d_queries: queries x keys, shared memory   d_keys: keys x queries, shared memory
//   16-bit  16 .. 64     64 x 64   512 D bytes: 8 to 32 KiB         64 x 32   512 D + 512 bytes: 8.5 to 32.5 KiB
//   16-bit  128          64 x 32   48 KiB                           64 x 16   48.25 KiB
//   float   16 .. 64     64 x 32   768 D bytes + 12 KiB: to 60 KiB  64 x 32   1024 D bytes + 12.5 KiB: to 76.5 KiB
//   float   128          32 x 32   70 KiB                           32 x 16   66.25 KiB
//
// Blocks of 4 warps on a multiprocessor, by registers (114 to 248, nvcc 13.0, sm_80): 2, for 16-bit types 3 where
// kQueriesBlocks and kKeysBlocks say so.
#include "attention_launch.cuh"
#include "attention_products.cuh"
#include "attention_sums.cuh"

namespace egformer {
namespace {

template <class T, int D>
struct Backward {
  using P = Products<T, D>;
  static constexpr bool kPlain = std::is_same_v<T, float>;
  static constexpr int kRows = P::kRows;
  static constexpr int kKeys = kPlain || D > 64 ? 32 : 64;  // columns of d_queries
  static constexpr int kQueries = D > 64 ? 16 : 32;         // columns of d_keys
  // Blocks of a multiprocessor: as many as leave registers enough that nothing spills.
  static constexpr int kQueriesBlocks = kPlain || D > 64 ? 2 : 3, kKeysBlocks = kPlain || D > 32 ? 2 : 3;
  using KeyWeights = typename P::template Weights<kKeys>;
  using QueryWeights = typename P::template Weights<kQueries>;
  static constexpr int kQueriesShared =
      2 * (kRows + kKeys) * D * sizeof(T) + P::template kScratch<kKeys> * sizeof(float);
  static constexpr int kStage = 2 * kQueries * D * sizeof(T) + 2 * kQueries * sizeof(float);
  static constexpr int kKeysShared =
      2 * kRows * D * sizeof(T) + 2 * kStage + P::template kScratch<kQueries> * sizeof(float);
};

// ---- d_q -------------------------------------------------------------------------------------------------------

template <class T, int D>
__global__ void __launch_bounds__(kAttentionThreads, Backward<T, D>::kQueriesBlocks)
    d_queries_kernel(AttentionBackwardParams b, Plan plan) {
  using B = Backward<T, D>;
  using P = typename B::P;
  constexpr int kKeys = B::kKeys;
  const AttentionParams& p = b.forward;
  EGFORMER_DYNAMIC_SHARED(T, queries);
  T *grads = queries + B::kRows * D, *keys = grads + B::kRows * D, *values = keys + kKeys * D;
  float* scratch = reinterpret_cast<float*>(values + kKeys * D);
  const QueryBlock at = query_block(p, B::kRows);
  const int64_t head = at.sample * p.heads + at.head;
  const T *k = head_of<T>(p.k, p.k_strides, at.sample, at.head), *v = head_of<T>(p.v, p.v_strides, at.sample, at.head);

  KeyTile tile = first_tile(p, at.sample);
  load_queries<T, D, B::kRows>(queries, head_of<T>(p.q, p.q_strides, at.sample, at.head), p.q_strides, p.queries,
                               at.first);
  load_queries<T, D, B::kRows>(grads, head_of<T>(b.d_out, b.d_out_strides, at.sample, at.head), b.d_out_strides,
                               p.queries, at.first);
  if (tile.slot < p.slots) load_keys<T, D, kKeys>(values, v, p.v_strides, p.keys, tile);
  cp_async_commit();
  float lse[P::kRowSlots], delta[P::kRowSlots];
  for (int i = 0; i < P::kRowSlots; ++i) {
    const int64_t row = head * plan.rows + at.first + P::row(i);
    lse[i] = plan.lse[row];
    delta[i] = plan.delta[row];
  }
  typename P::Rows d_q;
  while (tile.slot < p.slots) {
    cp_async_wait<0>();
    __syncthreads();  // values are there, and no warp still reads keys
    load_keys<T, D, kKeys>(keys, k, p.k_strides, p.keys, tile);
    cp_async_commit();
    typename B::KeyWeights logits, d_logits;
    P::multiply(d_logits, grads, values);
    const float prior = prior_of(p, at.sample, tile.slot);
    const int64_t count = p.keys - tile.first;
    cp_async_wait<0>();
    __syncthreads();  // keys are there, and no warp still reads values
    tile = next_tile(p, at.sample, tile, kKeys);
    if (tile.slot < p.slots) load_keys<T, D, kKeys>(values, v, p.v_strides, p.keys, tile);
    cp_async_commit();
    P::multiply(logits, queries, keys);
    for (int i = 0; i < P::kRowSlots; ++i) {
      for (int j = 0; j < B::KeyWeights::kColumnSlots; ++j) {
        float& s = logits.at(i, j);
        s = exp_logit<T>(s, p.scale, prior, lse[i]) * (d_logits.at(i, j) - delta[i]);
      }
    }
    if (count < kKeys) P::clear_columns(logits, static_cast<int>(count), 0.0f);
    P::accumulate(d_q, logits, keys, scratch);
  }
  cp_async_wait<0>();
  __syncthreads();  // save overwrites the queries, which may still be arriving where no slot is kept

  for (int i = 0; i < P::kRowSlots; ++i) d_q.scale_row(i, p.scale);
  P::save(d_q, queries, static_cast<T*>(b.d_q) + (head * p.queries + at.first) * D, p.queries - at.first);
}

// ---- d_k, d_v, d_bias ------------------------------------------------------------------------------------------

struct KeyBlock {
  int64_t sample, modality, head, tile, part, map;  // map: linear (sample, modality, head)
};
__device__ KeyBlock key_block(const AttentionParams& p, int64_t tiles, int64_t parts) {
  const int64_t part = blockIdx.x % parts, tile = blockIdx.x / parts % tiles, map = blockIdx.x / (parts * tiles);
  return {map / (p.modalities * p.heads), map / p.heads % p.modalities, map % p.heads, tile, part, map};
}

__device__ int64_t slot_naming(const AttentionParams& p, int64_t sample, int64_t modality, int64_t slot) {
  while (slot < p.slots && modality_of(p, sample, slot) != modality) ++slot;
  return slot;
}

template <class T, int D>
struct KeyGradients {
  using B = Backward<T, D>;
  using P = typename B::P;
  static constexpr int kQueries = B::kQueries;
  const AttentionBackwardParams& b;
  const AttentionParams& p;
  const Plan& plan;
  const KeyBlock& at;
  const T *q, *d_out;  // of the sample and head
  T *keys, *values;
  unsigned char* stages;
  float* scratch;
  typename P::Rows d_k, d_v;

  __device__ T* queries(int stage) const { return reinterpret_cast<T*>(stages + stage * B::kStage); }
  __device__ T* grads(int stage) const { return queries(stage) + kQueries * D; }
  __device__ float* lse(int stage) const { return reinterpret_cast<float*>(grads(stage) + kQueries * D); }
  __device__ float* delta(int stage) const { return lse(stage) + kQueries; }

  __device__ void load_stage(int stage, int64_t tile) const {
    const int64_t first = tile * kQueries;
    load_queries<T, D, kQueries>(queries(stage), q, p.q_strides, p.queries, first);
    load_queries<T, D, kQueries>(grads(stage), d_out, b.d_out_strides, p.queries, first);
    const int64_t row = (at.sample * p.heads + at.head) * plan.rows + first;
    const int term = threadIdx.x * 4;
    if (term < kQueries) {
      cp_async_16(lse(stage) + term, plan.lse + row + term);
    } else if (term < 2 * kQueries) {
      cp_async_16(delta(stage) + term - kQueries, plan.delta + row + term - kQueries);
    }
  }

  // Adds one slot; returns this thread's share of its d_bias. The next slot starts with stage 0 again: a barrier of the
  // block must come between. Rows behind the last key are zeros; what comes of them stays in them and is left out.
  __device__ float add_slot(int64_t slot) {
    const int64_t tiles = ceil_div(p.queries, kQueries);
    const int64_t begin = tiles * at.part / plan.parts, end = tiles * (at.part + 1) / plan.parts;
    const float prior = prior_of(p, at.sample, slot);
    float sums[P::kRowSlots] = {}, sum = 0.0f;
    if (begin < end) load_stage(0, begin);
    cp_async_commit();
    for (int64_t tile = begin; tile < end; ++tile) {
      const int stage = (tile - begin) % 2;
      cp_async_wait<0>();
      __syncthreads();  // this tile is there, and no warp still reads the other stage
      if (tile + 1 < end) load_stage(1 - stage, tile + 1);
      cp_async_commit();
      add_tile(stage, prior, sums);
    }
    for (int i = 0; i < P::kRowSlots; ++i) sum += at.tile * B::kRows + P::row(i) < p.keys ? sums[i] : 0.0f;
    return sum;
  }

  __device__ void add_tile(int stage, float prior, float (&sums)[P::kRowSlots]) {
    typename B::QueryWeights weights, d_logits;
    P::multiply(weights, keys, queries(stage));
    P::multiply(d_logits, values, grads(stage));
    for (int j = 0; j < B::QueryWeights::kColumnSlots; ++j) {
      const float lse_j = load_shared(lse(stage) + P::column(j)), delta_j = load_shared(delta(stage) + P::column(j));
      for (int i = 0; i < P::kRowSlots; ++i) {
        weights.at(i, j) = exp_logit<T>(weights.at(i, j), p.scale, prior, lse_j);
        d_logits.at(i, j) = weights.at(i, j) * (d_logits.at(i, j) - delta_j);
        sums[i] += d_logits.at(i, j);
      }
    }
    P::accumulate(d_v, weights, grads(stage), scratch);
    P::accumulate(d_k, d_logits, queries(stage), scratch);
  }
};

template <class T, int D>
__global__ void __launch_bounds__(kAttentionThreads, Backward<T, D>::kKeysBlocks)
    d_keys_kernel(AttentionBackwardParams b, Plan plan) {
  using B = Backward<T, D>;
  using P = typename B::P;
  const AttentionParams& p = b.forward;
  EGFORMER_DYNAMIC_SHARED(T, keys);
  T* values = keys + B::kRows * D;
  unsigned char* stages = reinterpret_cast<unsigned char*>(values + B::kRows * D);
  const int64_t tiles = ceil_div(p.keys, B::kRows);
  const KeyBlock at = key_block(p, tiles, plan.parts);
  KeyGradients<T, D> sums{b,
                          p,
                          plan,
                          at,
                          head_of<T>(p.q, p.q_strides, at.sample, at.head),
                          head_of<T>(b.d_out, b.d_out_strides, at.sample, at.head),
                          keys,
                          values,
                          stages,
                          reinterpret_cast<float*>(stages + 2 * B::kStage),
                          {},
                          {}};

  int64_t slot = slot_naming(p, at.sample, at.modality, 0);
  if (slot < p.slots) {
    const KeyTile tile{slot, at.modality, at.tile * B::kRows};
    load_keys<T, D, B::kRows>(keys, head_of<T>(p.k, p.k_strides, at.sample, at.head), p.k_strides, p.keys, tile);
    load_keys<T, D, B::kRows>(values, head_of<T>(p.v, p.v_strides, at.sample, at.head), p.v_strides, p.keys, tile);
  }
  for (; slot < p.slots; slot = slot_naming(p, at.sample, at.modality, slot + 1)) {
    const float sum = block_sum(sums.add_slot(slot));  // has the barrier that add_slot asks for
    const int64_t partial = ((at.sample * p.slots + slot) * p.heads + at.head) * tiles + at.tile;
    if (threadIdx.x == 0) plan.d_bias[partial * plan.parts + at.part] = sum;
  }
  cp_async_wait<0>();
  __syncthreads();  // save overwrites keys and values, which may still be arriving where there are no queries

  for (int i = 0; i < P::kRowSlots; ++i) sums.d_k.scale_row(i, p.scale);
  const int64_t count = p.keys - at.tile * B::kRows, row = (at.map * p.keys + at.tile * B::kRows) * D;
  if (plan.parts == 1) {
    P::save(sums.d_k, keys, static_cast<T*>(b.d_k) + row, count);
    P::save(sums.d_v, values, static_cast<T*>(b.d_v) + row, count);
  } else {
    const int64_t part = at.part * p.batch * p.modalities * p.heads * p.keys * D + row;
    P::save(sums.d_k, keys, plan.d_k + part, count);
    P::save(sums.d_v, values, plan.d_v + part, count);
  }
}

// ---- launches --------------------------------------------------------------------------------------------------

constexpr const char* kName = "modality_attention_backward";

template <class Kernel, class... A>
void start(Kernel kernel, const char* name, int64_t blocks, unsigned grid_rows, int shared, cudaStream_t stream,
           A... args) {
  if (blocks == 0) return;
  launch(name, kernel, dim3(grid_of(kName, blocks).x, grid_rows), dim3(kAttentionThreads), shared, stream, args...);
}

template <class T, int D>
void launch_backward(const AttentionBackwardParams& b, cudaStream_t stream) {
  using B = Backward<T, D>;
  const AttentionParams& p = b.forward;
  const Plan plan = plan_of(b);
  const int64_t heads = p.batch * p.heads, maps = heads * p.modalities, key_tiles = ceil_div(p.keys, B::kRows);
  start(row_terms<T, D>, "modality_attention_row_terms",
        ceil_div(heads * plan.rows * Tile<T, D>::kChunks, kAttentionThreads), 1, 0, stream, b, plan);
  start(d_queries_kernel<T, D>, "modality_attention_d_queries", heads * ceil_div(p.queries, B::kRows), 1,
        B::kQueriesShared, stream, b, plan);
  start(d_keys_kernel<T, D>, "modality_attention_d_keys", maps * key_tiles * plan.parts, 1, B::kKeysShared, stream, b,
        plan);
  if (plan.parts > 1) {
    const int64_t elements = maps * p.keys * D;
    start(sum_parts<T>, "modality_attention_sum_parts", ceil_div(elements, 4 * kAttentionThreads), 2, 0, stream, b,
          plan, elements);
  }
  if (b.d_bias != nullptr) {
    start(sum_bias, "modality_attention_sum_bias", p.batch * p.slots, 1, 0, stream, b, plan,
          p.heads * key_tiles * plan.parts);
  }
}

}  // namespace

template <class T>
void launch_modality_attention_backward(const AttentionBackwardParams& b, cudaStream_t stream) {
  check_attention(b.forward, sizeof(T));
  check_aligned("d_out", b.d_out, b.d_out_strides, sizeof(T));
  for (const void* data : {b.d_q, b.d_k, b.d_v, static_cast<void*>(b.scratch)}) {
    check_aligned("a gradient or scratch", data, {}, sizeof(T));
  }
  with_head_dim(b.forward.dim, [&](auto dim) { launch_backward<T, decltype(dim)::value>(b, stream); });
}
template void launch_modality_attention_backward<float>(const AttentionBackwardParams&, cudaStream_t);
template void launch_modality_attention_backward<__half>(const AttentionBackwardParams&, cudaStream_t);
template void launch_modality_attention_backward<__nv_bfloat16>(const AttentionBackwardParams&, cudaStream_t);

}  // namespace egformer
