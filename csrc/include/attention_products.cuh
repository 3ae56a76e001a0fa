// Products of tiles for modality_attention, on tensor cores (16-bit types) and with plain FMA (float), behind one
// interface, so that each kernel is written once:
//
//   Weights<kColumns>  (rows x columns) in registers: logits, probabilities; at(i, j) is row(i), column(j) of the block
//   Rows               (rows x D) in registers: the accumulated output
//   multiply(w, a, b)         w = a b^T            a, b: tiles in shared memory
//   accumulate(r, w, b, s)    r += w b             s: scratch of kScratch<kColumns> floats
//   clear_columns(w, n, x)    x in the columns behind the first n
//   row_max, row_sum          over the lanes that share a row
//   save(r, tile, out, n)     the first n rows to dense global memory; `tile` is overwritten by its own warp alone
//
// A block is kAttentionThreads threads; a row never leaves its warp, so that nothing here needs a block barrier.
#pragma once

#include <type_traits>

#include "attention_tiles.cuh"

namespace egformer {

template <int kLanes>
__device__ float max_over(float value) {
  for (int step = 1; step < kLanes; step *= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}
template <int kLanes>
__device__ float sum_over(float value) {
  for (int step = 1; step < kLanes; step *= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

// What both kinds share.
template <class P>
struct ProductsBase {
  template <class Weights>
  static __device__ void clear_columns(Weights& w, int count, float value) {
    for (int j = 0; j < Weights::kColumnSlots; ++j) {
      for (int i = 0; i < P::kRowSlots; ++i) {
        if (P::column(j) >= count) w.at(i, j) = value;
      }
    }
  }
};

// ---- mma.sync m16n8k16, float32 accumulation: a warp owns 16 rows ----------------------------------------------
// In the fragment of a 16 x 8 product lane 4g + t holds (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). Two of them
// side by side, rounded to T, are the left operand of the next product: weights never pass through memory.
template <class T, int D>
struct TensorCores : ProductsBase<TensorCores<T, D>> {
  static constexpr int kRows = kAttentionThreads / 2, kRowSlots = 2;
  template <int kColumns>
  static constexpr int kScratch = 0;
  using Block = Tile<T, D>;

  static __device__ int lane() { return threadIdx.x % 32; }
  static __device__ int first_row() { return threadIdx.x / 32 * 16; }
  static __device__ int row(int i) { return first_row() + lane() / 4 + 8 * i; }
  static __device__ int column(int j) { return j / 2 * 8 + lane() % 4 * 2 + j % 2; }
  static __device__ float row_max(float value) { return max_over<4>(value); }
  static __device__ float row_sum(float value) { return sum_over<4>(value); }

  template <int kColumns>
  struct Weights {
    static constexpr int kColumnSlots = kColumns / 4;
    float fragment[kColumns / 8][4];
    __device__ float& at(int i, int j) { return fragment[j / 2][2 * i + j % 2]; }
  };
  struct Rows {
    float fragment[D / 8][4] = {};
    __device__ void scale_row(int i, float factor) {
      for (int n = 0; n < D / 8; ++n) {
        fragment[n][2 * i] *= factor;
        fragment[n][2 * i + 1] *= factor;
      }
    }
  };

  template <int kColumns>
  static __device__ void multiply(Weights<kColumns>& w, const T* a, const T* b) {
    w = {};
    for (int k = 0; k < D / 16; ++k) {
      unsigned left[4];
      ldmatrix_x4(left, a + Block::offset(first_row() + lane() % 16, 2 * k + lane() / 16));
      for (int n = 0; n < kColumns / 16; ++n) {
        unsigned right[4];
        ldmatrix_x4(right, b + Block::offset(16 * n + lane() / 16 * 8 + lane() % 8, 2 * k + lane() / 8 % 2));
        multiply_pair(w.fragment[2 * n], w.fragment[2 * n + 1], left, right);
      }
    }
  }

  template <int kColumns>
  static __device__ void accumulate(Rows& r, Weights<kColumns>& w, const T* b, float*) {
    for (int k = 0; k < kColumns / 16; ++k) {
      const float(&low)[4] = w.fragment[2 * k], (&high)[4] = w.fragment[2 * k + 1];
      const unsigned left[4] = {pack<T>(low[0], low[1]), pack<T>(low[2], low[3]), pack<T>(high[0], high[1]),
                                pack<T>(high[2], high[3])};
      for (int n = 0; n < D / 16; ++n) {
        unsigned right[4];
        ldmatrix_x4_trans(right, b + Block::offset(16 * k + lane() % 16, 2 * n + lane() / 16));
        multiply_pair(r.fragment[2 * n], r.fragment[2 * n + 1], left, right);
      }
    }
  }

  static __device__ void multiply_pair(float (&c0)[4], float (&c1)[4], const unsigned (&left)[4],
                                       const unsigned (&right)[4]) {
    const unsigned right0[2] = {right[0], right[1]}, right1[2] = {right[2], right[3]};
    mma_16816<T>(c0, left, right0, c0);
    mma_16816<T>(c1, left, right1, c1);
  }

  // Through the tile, because a fragment's row is four lanes of four bytes and global memory wants 16-byte accesses.
  static __device__ void save(Rows& r, T* tile, T* out, int64_t count) {
    for (int n = 0; n < D / 8; ++n) {
      for (int i = 0; i < 2; ++i) {
        T* to = tile + Block::offset(row(i), n) + lane() % 4 * 2;
        store_shared(reinterpret_cast<unsigned*>(to), pack<T>(r.fragment[n][2 * i], r.fragment[n][2 * i + 1]));
      }
    }
    __syncwarp();
    for (int i = lane(); i < 16 * Block::kChunks; i += 32) {
      const int row = first_row() + i / Block::kChunks, chunk = i % Block::kChunks;
      if (row >= count) break;
      const auto from = reinterpret_cast<const Vector<T>*>(tile + Block::offset(row, chunk));
      store_vector(out + row * D + chunk * Block::kChunk, load_shared(from));
    }
  }
  // Partial sums: four lanes fill a 32-byte sector.
  static __device__ void save(Rows& r, T*, float* out, int64_t count) {
    for (int i = 0; i < 2; ++i) {
      if (row(i) >= count) continue;
      for (int n = 0; n < D / 8; ++n) {
        const float2 pair = make_float2(r.fragment[n][2 * i], r.fragment[n][2 * i + 1]);
        egformer::store(reinterpret_cast<float2*>(out + row(i) * D + n * 8 + lane() % 4 * 2), pair);
      }
    }
  }
};

// ---- float, plain FMA: half a warp owns every eighth row -------------------------------------------------------
// Thread 16 y + x holds rows y + 8i and columns x + 16j of weights, and chunks x + 16c of the output rows. Rows shorter
// than 16 chunks leave lanes over: these take other keys, and their sums are joined in save.
template <int D>
struct PlainFma : ProductsBase<PlainFma<D>> {
  using T = float;
  using Block = Tile<float, D>;
  static constexpr int kRowSlots = D <= 64 ? 8 : 4, kRows = 8 * kRowSlots;  // 128 registers of output do not fit
  static constexpr int kLanes = Block::kChunks < 16 ? Block::kChunks : 16, kSplit = 16 / kLanes;
  static constexpr int kOwned = Block::kChunks / kLanes;  // chunks of an output row
  template <int kColumns>
  static constexpr int kStride = kColumns % 32 == 0 ? kColumns + 16 : kColumns;  // two rows in different banks
  template <int kColumns>
  static constexpr int kScratch = kRows * kStride<kColumns>;

  static __device__ int x() { return threadIdx.x % 16; }
  static __device__ int row(int i) { return threadIdx.x / 16 + 8 * i; }
  static __device__ int column(int j) { return x() + 16 * j; }
  static __device__ float row_max(float value) { return max_over<16>(value); }
  static __device__ float row_sum(float value) { return sum_over<16>(value); }

  template <int kColumns>
  struct Weights {
    static constexpr int kColumnSlots = kColumns / 16;
    float value[kRowSlots][kColumnSlots];
    __device__ float& at(int i, int j) { return value[i][j]; }
  };
  struct Rows {
    float value[kRowSlots][kOwned][4] = {};
    __device__ void scale_row(int i, float factor) {
      for (int c = 0; c < kOwned; ++c) {
        for (int e = 0; e < 4; ++e) value[i][c][e] *= factor;
      }
    }
  };

  static __device__ float4 chunk_of(const float* tile, int row, int chunk) {
    return load_shared(reinterpret_cast<const float4*>(tile + Block::offset(row, chunk)));
  }

  template <int kColumns>
  static __device__ void multiply(Weights<kColumns>& w, const float* a, const float* b) {
    constexpr int kColumnSlots = kColumns / 16;
    w = {};
    for (int chunk = 0; chunk < Block::kChunks; ++chunk) {
      float4 right[kColumnSlots];
      for (int j = 0; j < kColumnSlots; ++j) right[j] = chunk_of(b, column(j), chunk);
      for (int i = 0; i < kRowSlots; ++i) {
        const float4 left = chunk_of(a, row(i), chunk);
        for (int j = 0; j < kColumnSlots; ++j) {
          float& sum = w.value[i][j];
          sum = fmaf(left.x, right[j].x, sum);
          sum = fmaf(left.y, right[j].y, sum);
          sum = fmaf(left.z, right[j].z, sum);
          sum = fmaf(left.w, right[j].w, sum);
        }
      }
    }
  }

  template <int kColumns>
  static __device__ void accumulate(Rows& r, Weights<kColumns>& w, const float* b, float* scratch) {
    constexpr int kLine = kStride<kColumns>;
    __syncwarp();  // the last product has read its weights
    for (int i = 0; i < kRowSlots; ++i) {
      for (int j = 0; j < kColumns / 16; ++j) store_shared(scratch + row(i) * kLine + column(j), w.value[i][j]);
    }
    __syncwarp();
    for (int key = x() / kLanes * 4; key < kColumns; key += 4 * kSplit) {
      float4 right[4][kOwned];
      for (int u = 0; u < 4; ++u) {
        for (int c = 0; c < kOwned; ++c) right[u][c] = chunk_of(b, key + u, x() % kLanes + kLanes * c);
      }
      for (int i = 0; i < kRowSlots; ++i) {
        const float4 left = load_shared(reinterpret_cast<const float4*>(scratch + row(i) * kLine + key));
        const float weight[4] = {left.x, left.y, left.z, left.w};
        for (int c = 0; c < kOwned; ++c) {
          for (int u = 0; u < 4; ++u) {
            float(&sum)[4] = r.value[i][c];
            sum[0] = fmaf(weight[u], right[u][c].x, sum[0]);
            sum[1] = fmaf(weight[u], right[u][c].y, sum[1]);
            sum[2] = fmaf(weight[u], right[u][c].z, sum[2]);
            sum[3] = fmaf(weight[u], right[u][c].w, sum[3]);
          }
        }
      }
    }
  }

  static __device__ void save(Rows& r, float*, float* out, int64_t count) {
    for (int i = 0; i < kRowSlots; ++i) {
      for (int c = 0; c < kOwned; ++c) {
        float(&sum)[4] = r.value[i][c];
        for (int e = 0; e < 4; ++e) {
          for (int step = kLanes; step < 16; step *= 2) sum[e] += __shfl_xor_sync(kAllLanes, sum[e], step);
        }
        if (x() >= kLanes || row(i) >= count) continue;
        store_vector(out + row(i) * D + (x() + kLanes * c) * 4, Vector<float>{sum[0], sum[1], sum[2], sum[3]});
      }
    }
  }
};

template <class T, int D>
struct ProductsOf {
  using type = TensorCores<T, D>;
};
template <int D>
struct ProductsOf<float, D> {
  using type = PlainFma<D>;
};
template <class T, int D>
using Products = typename ProductsOf<T, D>::type;

}  // namespace egformer
