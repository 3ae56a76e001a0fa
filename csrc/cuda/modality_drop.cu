// modality_drop on a GPU; the formulas are in egformer_fast/ops/modality_drop.py.
//
// Forward, one launch: a block of 256 threads serves 1024 pieces of 16 bytes of one sample. Its first warp decides from
// the sample's M scores what is kept (every block again: a few hundred instructions instead of a second launch and a
// round trip), then each thread reads its pieces of the kept modalities, four at a time, writes them to their slots and
// their weighted sum to fused. Where tokens are dense a map is one long row; else a division finds the token.
// Backward, two launches: (1) a block keeps its pieces of d_fused in registers and goes through the modalities: writes
// d_x (zeros where dropped) and the dot product of d_fused and x; (2) one warp a sample adds those in order and turns
// them into d_score. No atomics: the same bits every time.
//
// Bytes: forward reads K, writes K + 1 maps; backward reads 2 K + 1 maps and writes M: the floor. Dropped modalities
// cost no loads. Shared memory below 1 KiB; forward about 16 KiB times K under way in a block, of which four (62
// registers in 16 bits) or six (40 in float) are on a multiprocessor.
#include <algorithm>
#include <stdexcept>

#include "alignment.h"
#include "device.cuh"
#include "modality_drop.h"
#include "selection.cuh"

namespace egformer {
namespace {

struct DropTraits {
  static constexpr int kThreads = 256, kWarps = kThreads / 32;
  static constexpr int kPieces = 4;  // of a thread
  static constexpr int kGroup = 4;   // kept modalities that are loaded together
};
constexpr int kThreads = DropTraits::kThreads, kWarps = DropTraits::kWarps, kPieces = DropTraits::kPieces;
constexpr unsigned kBlockPieces = kThreads * kPieces;

// A piece is kSize channels of a token: 16 bytes, or one value where memory is not aligned.
template <class T, int kSize>
struct Piece {
  float value[kSize];

  __device__ __forceinline__ void read(const T* from) {
    if constexpr (kSize == 1) {
      value[0] = to_float(load(from));
    } else {
      const Vector<T> bits = load_vector(from);
      for (int i = 0; i < kSize; ++i) value[i] = to_float(bits.value[i]);
    }
  }
  __device__ __forceinline__ void write(T* to) const {
    if constexpr (kSize == 1) {
      store(to, from_float<T>(value[0]));
    } else {
      Vector<T> bits;
      for (int i = 0; i < kSize; ++i) bits.value[i] = from_float<T>(value[i]);
      store_vector(to, bits);
    }
  }
};

// How the pieces of a map are cut into blocks.
struct Cut {
  unsigned row, pieces, blocks;  // pieces of a token, of a map; blocks of a sample

  Cut(const DropShape& shape, int size)
      : row(static_cast<unsigned>(shape.channels / size)),
        pieces(static_cast<unsigned>(shape.tokens * (shape.channels / size))),
        blocks(static_cast<unsigned>(ceil_div(pieces, kBlockPieces))) {}
};

template <class T>
__device__ __forceinline__ const T* piece_of(const Rows<T>& rows, int64_t sample, int64_t modality, unsigned token,
                                             unsigned column, int size) {
  return rows.data + sample * rows.batch_stride + modality * rows.modality_stride + token * rows.token_stride +
         static_cast<int64_t>(column) * size;
}

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads)
    drop_kernel(Rows<T> x, DropScores scores, DropShape shape, Cut cut, DropOutputs<T> out) {
  EGFORMER_SHARED(Selection, chosen, [1]);
  constexpr int kGroup = DropTraits::kGroup;
  const int64_t sample = blockIdx.x / cut.blocks, width = static_cast<int64_t>(cut.pieces) * kSize;
  const unsigned part = blockIdx.x % cut.blocks;
  if (threadIdx.x < 32) select(scores, shape, sample, chosen);
  __syncthreads();
  const int count = chosen->count, keep = static_cast<int>(shape.keep);
  if (const int slot = static_cast<int>(threadIdx.x); part == 0 && slot < keep) {
    out.index[sample * keep + slot] = slot < count ? chosen->modality[slot] : -1;
    out.weight[sample * keep + slot] = slot < count ? chosen->weight[slot] : 0;
  }
  const unsigned end = min((part + 1) * kBlockPieces, cut.pieces);
  for (unsigned piece = part * kBlockPieces + threadIdx.x; piece < end; piece += kThreads) {
    const unsigned token = piece / cut.row, column = piece % cut.row;
    const int64_t place = static_cast<int64_t>(piece) * kSize;
    Piece<T, kSize> sum = {};
    for (int first = 0; first < keep; first += kGroup) {
      Piece<T, kSize> pieces[kGroup] = {};
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        if (first + j < count) pieces[j].read(piece_of(x, sample, chosen->modality[first + j], token, column, kSize));
      }
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        if (first + j >= keep) break;
        if (out.survivors != nullptr) pieces[j].write(out.survivors + (sample * keep + first + j) * width + place);
        if (first + j >= count) continue;
        for (int i = 0; i < kSize; ++i) sum.value[i] += chosen->weight[first + j] * pieces[j].value[i];
      }
    }
    sum.write(out.fused + sample * width + place);
  }
}

// ---- backward ------------------------------------------------------------------------------------------------------

// The slot that holds the modality, or -1.
__device__ __forceinline__ int slot_of(const int64_t* index, int keep, int modality) {
  for (int j = 0; j < keep; ++j) {
    if (index[j] == modality) return j;
  }
  return -1;
}

// dots (B, cut.blocks, K): the block's part of <d_fused, x[index_j]>; written for kept modalities.
template <class T, int kSize>
__global__ void __launch_bounds__(kThreads)
    drop_backward_kernel(DropGradients<T> gradients, Rows<T> x, const int64_t* index, const float* weight,
                         DropShape shape, Cut cut, float* dots, T* d_x) {
  EGFORMER_SHARED(float, sums, [kWarps][kMaxModalities]);
  const int64_t sample = blockIdx.x / cut.blocks, width = static_cast<int64_t>(cut.pieces) * kSize;
  const unsigned part = blockIdx.x % cut.blocks, first = part * kBlockPieces + threadIdx.x;
  const int keep = static_cast<int>(shape.keep), modalities = static_cast<int>(shape.modalities);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  Piece<T, kSize> d_fused[kPieces] = {};
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const unsigned piece = first + i * kThreads;
    if (gradients.d_fused.data == nullptr || piece >= cut.pieces) continue;
    d_fused[i].read(piece_of(gradients.d_fused, sample, 0, piece / cut.row, piece % cut.row, kSize));
  }
  for (int m = 0; m < modalities; ++m) {
    const int slot = slot_of(index + sample * keep, keep, m);
    const float share = slot >= 0 ? weight[sample * keep + slot] : 0;
    float dot = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const unsigned piece = first + i * kThreads;
      if (piece >= cut.pieces) break;
      const unsigned token = piece / cut.row, column = piece % cut.row;
      Piece<T, kSize> result = {};
      if (slot >= 0 && gradients.d_survivors.data != nullptr) {
        result.read(piece_of(gradients.d_survivors, sample, slot, token, column, kSize));
      }
      if (slot >= 0 && gradients.d_fused.data != nullptr) {
        Piece<T, kSize> value;
        value.read(piece_of(x, sample, m, token, column, kSize));
        for (int e = 0; e < kSize; ++e) {
          result.value[e] += share * d_fused[i].value[e];
          dot += d_fused[i].value[e] * value.value[e];
        }
      }
      result.write(d_x + (sample * modalities + m) * width + static_cast<int64_t>(piece) * kSize);
    }
    if (slot < 0) continue;
    dot = warp_sum(dot);
    if (lane == 0) sums[warp][slot] = dot;
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < keep && index[sample * keep + threadIdx.x] >= 0) {
    float total = 0;
    for (int i = 0; i < kWarps; ++i) total += sums[i][threadIdx.x];
    dots[(sample * cut.blocks + part) * keep + threadIdx.x] = total;
  }
}

// One warp a sample, lane j for slot j: weight_j = s_j / S, so d_s_j = (share_j - sum_i weight_i share_i) / S.
__global__ void __launch_bounds__(32)
    drop_score_kernel(const float* dots, unsigned blocks, const float* d_weight, const float* score,
                      const int64_t* index, const float* weight, DropShape shape, float* d_score) {
  const int64_t sample = blockIdx.x, slots = sample * shape.keep;
  const int lane = static_cast<int>(threadIdx.x), keep = static_cast<int>(shape.keep);
  const int64_t m = lane < keep ? index[slots + lane] : -1;
  const bool held = m >= 0 && m < shape.modalities;
  if (lane < shape.modalities) d_score[sample * shape.modalities + lane] = 0;
  __syncwarp();  // the zeros come before the values
  float share = held && d_weight != nullptr ? d_weight[slots + lane] : 0;
  for (unsigned part = 0; held && part < blocks; ++part) share += dots[(sample * blocks + part) * keep + lane];
  const float total = warp_sum(held ? score[sample * shape.modalities + m] : 0);
  const float mean = warp_sum(held ? weight[slots + lane] * share : 0);
  if (held && total > 0) d_score[sample * shape.modalities + m] = (share - mean) / total;
}

// ---- launchers -----------------------------------------------------------------------------------------------------

void check_shape(const DropShape& shape) {
  if (shape.modalities > kMaxModalities) throw std::runtime_error("modality_drop: at most 16 modalities");
  if (shape.tokens * shape.channels >= int64_t{1} << 31) {
    throw std::runtime_error("modality_drop: a map (tokens times channels) must have fewer than 2^31 values");
  }
}

// Dense tokens are one long row.
DropShape folded(DropShape shape, bool dense) {
  if (dense) {
    shape.channels *= shape.tokens;
    shape.tokens = 1;
  }
  return shape;
}

template <class T>
bool is_dense(const Rows<T>& rows, const DropShape& shape) {
  return rows.data == nullptr || rows.token_stride == shape.channels || shape.tokens == 1;
}

template <class T>
bool can_vectorize(const Rows<T>& rows, const DropShape& shape) {
  const int64_t token_stride = shape.tokens > 1 ? rows.token_stride : 0;
  return rows.data == nullptr ||
         is_vectorizable(rows.data, shape.channels, {rows.batch_stride, rows.modality_stride, token_stride});
}

template <class T, int kSize>
void forward(const Rows<T>& x, const DropScores& scores, const DropShape& shape, const DropOutputs<T>& outputs,
             cudaStream_t stream) {
  Cut cut(shape, kSize);
  cut.blocks = std::max(1u, cut.blocks);  // index and weight are written for maps without values too
  cut.row = std::max(1u, cut.row);
  launch("modality_drop", drop_kernel<T, kSize>, dim3(static_cast<unsigned>(shape.batch * cut.blocks)), dim3(kThreads),
         0, stream, x, scores, shape, cut, outputs);
}

template <class T, int kSize>
void backward(const DropGradients<T>& gradients, const Rows<T>& x, const float* score, const int64_t* index,
              const float* weight, const DropShape& shape, float* scratch, T* d_x, float* d_score,
              cudaStream_t stream) {
  const Cut cut(shape, kSize);
  const auto samples = static_cast<unsigned>(shape.batch);
  if (cut.blocks > 0) {
    launch("modality_drop: backward", drop_backward_kernel<T, kSize>, dim3(samples * cut.blocks), dim3(kThreads), 0,
           stream, gradients, x, index, weight, shape, cut, scratch, d_x);
  }
  const unsigned parts = gradients.d_fused.data != nullptr ? cut.blocks : 0;
  launch("modality_drop: backward of scores", drop_score_kernel, dim3(samples), dim3(32), 0, stream, scratch, parts,
         gradients.d_weight, score, index, weight, shape, d_score);
}

}  // namespace

template <class T>
void modality_drop(const Rows<T>& x, const DropScores& scores, const DropShape& shape, const DropOutputs<T>& outputs,
                   cudaStream_t stream) {
  check_shape(shape);
  if (shape.batch == 0) return;
  const DropShape flat = folded(shape, is_dense(x, shape));
  if (can_vectorize(x, flat)) {
    forward<T, Vector<T>::kSize>(x, scores, flat, outputs, stream);
  } else {
    forward<T, 1>(x, scores, flat, outputs, stream);
  }
}

int64_t drop_backward_scratch(const DropShape& shape) { return shape.batch * Cut(shape, 1).blocks * shape.keep; }

template <class T>
void modality_drop_backward(const DropGradients<T>& gradients, const Rows<T>& x, const float* score,
                            const int64_t* index, const float* weight, const DropShape& shape, float* scratch, T* d_x,
                            float* d_score, cudaStream_t stream) {
  check_shape(shape);
  if (shape.batch == 0) return;
  const bool dense = is_dense(x, shape) && is_dense(gradients.d_survivors, shape) && is_dense(gradients.d_fused, shape);
  const DropShape flat = folded(shape, dense);
  if (can_vectorize(x, flat) && can_vectorize(gradients.d_survivors, flat) && can_vectorize(gradients.d_fused, flat)) {
    backward<T, Vector<T>::kSize>(gradients, x, score, index, weight, flat, scratch, d_x, d_score, stream);
  } else {
    backward<T, 1>(gradients, x, score, index, weight, flat, scratch, d_x, d_score, stream);
  }
}

#define EGFORMER_INSTANTIATE(T)                                                                               \
  template void modality_drop(const Rows<T>&, const DropScores&, const DropShape&, const DropOutputs<T>&,     \
                              cudaStream_t);                                                                  \
  template void modality_drop_backward(const DropGradients<T>&, const Rows<T>&, const float*, const int64_t*, \
                                       const float*, const DropShape&, float*, T*, float*, cudaStream_t)
EGFORMER_INSTANTIATE(float);
EGFORMER_INSTANTIATE(__half);
EGFORMER_INSTANTIATE(__nv_bfloat16);

}  // namespace egformer
