// modality_score on a GPU; the formulas are in egformer_fast/ops/modality_score.py.
//
// Forward, two launches. (1) pool: a block of 256 threads adds up at most max(4096 / C, N / 128) tokens of one map, for
// up to 32 columns of 16 bytes: a thread owns a column and every (256 / columns)-th token, four loads under way; lanes
// of the same column meet by shuffles, warps in shared memory, and the block writes its partial sums. (2) head: one
// block a map adds the partial sums, in parallel and in a fixed order, and runs the MLP (score_mlp.cuh); it is there
// before pool has ended and has asked for the weights by then.
// Backward, two launches, on the means alone: (1) one block a map runs the MLP again and writes d_pooled; (2) one
// thread for each entry of w1 adds over the maps in order. No atomics: the same bits every time.
//
// Bytes: x once, and 4 C for each block of pool, written and read again from the L2 cache: 1 % of a map of 65536 tokens
// and 32 channels in 16 bits, 25 % of one of 256 channels and few tokens, where the time is that of waiting. Maps that
// are not present cost no loads.
#include <algorithm>

#include "alignment.h"
#include "device.cuh"
#include "modality_score.h"
#include "score_mlp.cuh"

namespace egformer {
namespace {

struct ScoreTraits {
  static constexpr int kThreads = 256, kWarps = kThreads / 32;
  static constexpr int kMaxColumns = 32;  // of one block of pool
  static constexpr int kHeadThreads = 512;
  static constexpr int64_t kBlockElements = 4096, kMaxSplits = 128;
};
constexpr int kThreads = ScoreTraits::kThreads, kWarps = ScoreTraits::kWarps, kHeadThreads = ScoreTraits::kHeadThreads;

// ---- pool ----------------------------------------------------------------------------------------------------------

// How the tokens of a map are cut; it depends on the shape alone.
struct Split {
  int64_t tokens, count;

  explicit Split(const ScoreShape& s) {
    const int64_t wanted = ScoreTraits::kBlockElements / std::max<int64_t>(1, s.channels);
    tokens = std::max<int64_t>({1, wanted, ceil_div(s.tokens, ScoreTraits::kMaxSplits)});
    count = ceil_div(s.tokens, tokens);
  }
};

// Where lane `lane` keeps its i-th sum among 32: written by lane, read by channel, both without bank conflicts.
template <int kSize>
__device__ __forceinline__ int place_of(int i, int lane) {
  return lane ^ i * (32 / kSize);
}

// partial (B M, split.count, C). A column is kSize channels; `columns`, a power of two, of them lie side by side.
template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) pool_kernel(const T* x, const bool* present, ScoreShape shape, Split split,
                                                        int columns, int tiles, float* partial) {
  EGFORMER_SHARED(float, sums, [kWarps][kSize][32]);
  let_next_begin();
  const int64_t task = blockIdx.x / tiles, map = task / split.count, part = task % split.count;
  if (present != nullptr && !present[map]) return;
  const int tile = static_cast<int>(blockIdx.x % tiles) * columns, thread = static_cast<int>(threadIdx.x);
  const int64_t column = tile + thread % columns;
  const int64_t end = min((part + 1) * split.tokens, shape.tokens), rows = kThreads / columns;
  float sum[kSize] = {};
  if (column * kSize < shape.channels) {
    const T* first = x + map / shape.modalities * shape.batch_stride + map % shape.modalities * shape.modality_stride +
                     column * kSize;
#pragma unroll 4
    for (int64_t n = part * split.tokens + thread / columns; n < end; n += rows) {
      if constexpr (kSize == 1) {
        sum[0] += to_float(load(first + n * shape.token_stride));
      } else {
        const Vector<T> values = load_vector(first + n * shape.token_stride);
        for (int i = 0; i < kSize; ++i) sum[i] += to_float(values.value[i]);
      }
    }
  }
  for (int bits = 16; bits >= columns; bits /= 2) {
    for (int i = 0; i < kSize; ++i) sum[i] += __shfl_xor_sync(kAllLanes, sum[i], bits);
  }
  for (int i = 0; i < kSize; ++i) store_shared(&sums[thread / 32][i][place_of<kSize>(i, thread % 32)], sum[i]);
  __syncthreads();
  const int64_t channel = tile * kSize + thread;
  if (thread < columns * kSize && channel < shape.channels) {
    const int i = thread % kSize, place = place_of<kSize>(i, thread / kSize);
    float total = 0;
    for (int warp = 0; warp < kWarps; ++warp) total += load_shared(&sums[warp][i][place]);
    store(partial + task * shape.channels + channel, total);
  }
}

template <class T, int kSize>
void pool(const T* x, const bool* present, const ScoreShape& shape, float* partial, cudaStream_t stream) {
  const Split split(shape);
  const int64_t all = shape.channels / kSize;
  int columns = 1;
  while (columns < all && columns < ScoreTraits::kMaxColumns) columns *= 2;
  const int64_t tiles = ceil_div(all, columns), blocks = shape.batch * shape.modalities * split.count * tiles;
  if (blocks == 0) return;
  launch("modality_score: pool", pool_kernel<T, kSize>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream,
         x, present, shape, split, columns, static_cast<int>(tiles), partial);
}

// ---- head ----------------------------------------------------------------------------------------------------------

// Columns of partial that a block adds side by side: a thread each, and every (kHeadThreads / columns)-th split of it.
int head_columns(const ScoreShape& shape) {
  return static_cast<int>(std::min<int64_t>(kHeadThreads, std::max<int64_t>(1, ceil_div(shape.channels, 32)) * 32));
}

// The means of one map into `mean`, for all threads; false where one is not finite.
__device__ __forceinline__ bool average(const float* partial, int splits, int columns, const ScoreShape& shape,
                                        float* mean) {
  EGFORMER_SHARED(float, sums, [kHeadThreads]);
  const int thread = static_cast<int>(threadIdx.x), rows = kHeadThreads / columns, row = thread / columns;
  const int channels = static_cast<int>(shape.channels);
  bool finite = true;
  for (int first = 0; first < channels; first += columns) {
    const int c = first + thread % columns;
    float sum = 0;
    if (c < channels) {
#pragma unroll 8
      for (int split = row; split < splits; split += rows) {
        sum += load(partial + static_cast<int64_t>(split) * channels + c);
      }
    }
    store_shared(&sums[thread], sum);
    __syncthreads();
    if (row == 0 && c < channels) {
      for (int other = 1; other < rows; ++other) sum += load_shared(&sums[other * columns + thread]);
      sum /= static_cast<float>(shape.tokens);
      store(mean + c, sum);
      finite = finite && isfinite(sum);
    }
    __syncthreads();
  }
  return __syncthreads_and(finite) != 0;  // and the means are there for all
}

template <class W>
__global__ void __launch_bounds__(kHeadThreads)
    head_kernel(const float* partial, ScoreWeights<W> weights, const bool* present, ScoreShape shape, int splits,
                int columns, float* score, float* pooled) {
  prefetch_mlp<kHeadThreads>(weights, shape);
  wait_for_previous();
  const int64_t map = blockIdx.x;
  float* mean = pooled + map * shape.channels;
  if (present != nullptr && !present[map]) {
    for (int64_t c = threadIdx.x; c < shape.channels; c += kHeadThreads) store(mean + c, 0);
    if (threadIdx.x == 0) store(score + map, 0);
    return;
  }
  const bool finite = average(partial + map * splits * shape.channels, splits, columns, shape, mean);
  const float logit = run_mlp<kHeadThreads>(mean, weights, shape, [](int64_t, float) {});
  if (threadIdx.x == 0) store(score + map, finite && isfinite(logit) ? sigmoid(logit) : NAN);
}

// ---- backward ------------------------------------------------------------------------------------------------------

// What the second launch needs of each map, in scratch memory: R values of each kind, d_logit, and 1 where the map
// counts (present, and everything finite).
struct Saved {
  float *d_before, *hidden, *d_logit, *alive;

  __host__ __device__ Saved(float* scratch, int64_t maps, int64_t width)
      : d_before(scratch), hidden(scratch + maps * width), d_logit(hidden + maps * width), alive(d_logit + maps) {}
};

template <class W>
__global__ void __launch_bounds__(kThreads)
    backward_map_kernel(const float* d_score, const float* pooled, ScoreWeights<W> weights, const bool* present,
                        ScoreShape shape, Saved saved, float* d_pooled) {
  let_next_begin();
  const int64_t map = blockIdx.x, channels = shape.channels;
  const float* mean = pooled + map * channels;
  float *d_before = saved.d_before + map * shape.hidden, *hidden = saved.hidden + map * shape.hidden;
  bool alive = present == nullptr || present[map];
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) alive = alive && isfinite(mean[c]);
  alive = __syncthreads_and(alive) != 0;
  float d_logit = 0;
  if (alive) {
    const float logit = run_mlp<kThreads>(mean, weights, shape, [&](int64_t r, float before) {
      if (threadIdx.x % 32 == 0) d_before[r] = before;
    });
    alive = isfinite(logit);
    d_logit = d_score[map] * (sigmoid(logit) * (1 - sigmoid(logit)));
  }
  if (threadIdx.x == 0) saved.d_logit[map] = alive ? d_logit : 0;
  if (threadIdx.x == 0) saved.alive[map] = alive;
  if (!alive) {
    for (int64_t c = threadIdx.x; c < channels; c += kThreads) d_pooled[map * channels + c] = 0;
    return;
  }
  for (int64_t r = threadIdx.x; r < shape.hidden; r += kThreads) {
    const float before = d_before[r];
    hidden[r] = gelu(before);
    d_before[r] = d_logit * to_float(weights.w2[r]) * gelu_gradient(before);
  }
  __syncthreads();
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    float sum = 0;
    for (int64_t r = 0; r < shape.hidden; ++r) sum += d_before[r] * to_float(load(weights.w1 + r * channels + c));
    d_pooled[map * channels + c] = sum;
  }
}

// Block (r, tile): entries r of w1, 256 at a time; the first tile also writes b1 and w2, the first block b2.
template <class W>
__global__ void __launch_bounds__(kThreads) backward_weights_kernel(const float* pooled, ScoreShape shape, Saved saved,
                                                                    int tiles, ScoreGradients<W> gradients) {
  wait_for_previous();
  const int64_t r = blockIdx.x / tiles, c = blockIdx.x % tiles * kThreads + threadIdx.x;
  const int64_t maps = shape.batch * shape.modalities;
  float w1 = 0, b1 = 0, w2 = 0, b2 = 0;
  for (int64_t map = 0; map < maps; ++map) {
    if (saved.alive[map] == 0) continue;
    const float d_logit = saved.d_logit[map];
    b2 += d_logit;
    if (r < shape.hidden) {
      const float d_before = saved.d_before[map * shape.hidden + r];
      b1 += d_before;
      w2 += d_logit * saved.hidden[map * shape.hidden + r];
      if (c < shape.channels) w1 += d_before * load(pooled + map * shape.channels + c);
    }
  }
  if (r < shape.hidden && c < shape.channels) gradients.w1[r * shape.channels + c] = from_float<W>(w1);
  if (r < shape.hidden && c == 0) {
    gradients.b1[r] = from_float<W>(b1);
    gradients.w2[r] = from_float<W>(w2);
  }
  if (r == 0 && c == 0) *gradients.b2 = from_float<W>(b2);
}

}  // namespace

// ---- launchers -----------------------------------------------------------------------------------------------------

int64_t score_scratch(const ScoreShape& shape) {
  return shape.batch * shape.modalities * Split(shape).count * shape.channels;
}

int64_t score_backward_scratch(const ScoreShape& shape) {
  return shape.batch * shape.modalities * (2 * shape.hidden + 2);
}

template <class T, class W>
void modality_score(const T* x, const ScoreWeights<W>& weights, const bool* present, const ScoreShape& shape,
                    float* scratch, float* score, float* pooled, cudaStream_t stream) {
  const int64_t maps = shape.batch * shape.modalities;
  if (maps == 0) return;
  if (is_vectorizable(x, shape.channels, {shape.batch_stride, shape.modality_stride, shape.token_stride})) {
    pool<T, Vector<T>::kSize>(x, present, shape, scratch, stream);
  } else {
    pool<T, 1>(x, present, shape, scratch, stream);
  }
  launch_early("modality_score: head", head_kernel<W>, dim3(static_cast<unsigned>(maps)), dim3(kHeadThreads), stream,
               scratch, weights, present, shape, static_cast<int>(Split(shape).count), head_columns(shape), score,
               pooled);
}

template <class W>
void modality_score_backward(const float* d_score, const float* pooled, const ScoreWeights<W>& weights,
                             const bool* present, const ScoreShape& shape, float* scratch,
                             const ScoreGradients<W>& gradients, cudaStream_t stream) {
  const int64_t maps = shape.batch * shape.modalities;
  const Saved saved(scratch, maps, shape.hidden);
  if (maps > 0) {
    launch("modality_score: backward of maps", backward_map_kernel<W>, dim3(static_cast<unsigned>(maps)),
           dim3(kThreads), 0, stream, d_score, pooled, weights, present, shape, saved, gradients.d_pooled);
  }
  const int64_t tiles = std::max<int64_t>(1, ceil_div(shape.channels, kThreads));
  const int64_t blocks = std::max<int64_t>(1, shape.hidden) * tiles;
  launch_early("modality_score: backward of weights", backward_weights_kernel<W>, dim3(static_cast<unsigned>(blocks)),
               dim3(kThreads), stream, pooled, shape, saved, static_cast<int>(tiles), gradients);
}

#define EGFORMER_INSTANTIATE(T, W)                                                                               \
  template void modality_score(const T*, const ScoreWeights<W>&, const bool*, const ScoreShape&, float*, float*, \
                               float*, cudaStream_t)
#define EGFORMER_INSTANTIATE_BACKWARD(W)                                                                 \
  template void modality_score_backward(const float*, const float*, const ScoreWeights<W>&, const bool*, \
                                        const ScoreShape&, float*, const ScoreGradients<W>&, cudaStream_t)
EGFORMER_INSTANTIATE(float, float);
EGFORMER_INSTANTIATE(__half, __half);
EGFORMER_INSTANTIATE(__half, float);
EGFORMER_INSTANTIATE(__nv_bfloat16, __nv_bfloat16);
EGFORMER_INSTANTIATE(__nv_bfloat16, float);
EGFORMER_INSTANTIATE_BACKWARD(float);
EGFORMER_INSTANTIATE_BACKWARD(__half);
EGFORMER_INSTANTIATE_BACKWARD(__nv_bfloat16);

}  // namespace egformer
