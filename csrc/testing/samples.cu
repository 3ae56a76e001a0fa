// Small kernels for the tests of the SIMT layer itself: one that is right for each device, and below, each with one
// fault that the layer must name.
#include "device.cuh"
#include "samples.h"

namespace egformer {
namespace {

// ---- right ---------------------------------------------------------------------------------------------------------

// out[block] = sum of the block's share of x: shuffles, static shared memory, a barrier.
__global__ void sum_kernel(const float* x, float* out, int64_t count) {
  EGFORMER_SHARED(float, sums, [32]);
  float sum = 0;
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += load(x + i);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = warp_sum(threadIdx.x < blockDim.x / 32 ? sums[threadIdx.x] : 0.0f);
    if (threadIdx.x == 0) store(out + blockIdx.x, sum);
  }
}

// c (m, n) = a (m, k) b (n, k)^T, one warp for a tile of 16 x 8: copies two steps ahead, ldmatrix, mma.
template <class T>
__global__ void product_kernel(const T* a, const T* b, float* c, int n, int k) {
  constexpr int kRow = 24;  // 16 values and 8 of padding: rows start in different banks
  EGFORMER_DYNAMIC_SHARED(T, tiles);
  T *a_tile = tiles, *b_tile = tiles + 2 * 16 * kRow;
  const int lane = threadIdx.x, row = blockIdx.y * 16, column = blockIdx.x * 8;
  const auto fetch = [&](int step) {
    const int r = lane / 2, half = lane % 2 * 8, stage = step % 2;
    cp_async_16(a_tile + (stage * 16 + r) * kRow + half, a + (row + r) * k + step * 16 + half);
    if (r < 8) cp_async_16(b_tile + (stage * 8 + r) * kRow + half, b + (column + r) * k + step * 16 + half);
    cp_async_commit();
  };
  float sum[4] = {0, 0, 0, 0};
  fetch(0);
  for (int step = 0; step < k / 16; ++step) {
    if (step + 1 < k / 16) {
      fetch(step + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncwarp();
    unsigned left[4], right[2];
    ldmatrix_x4(left, a_tile + (step % 2 * 16 + lane % 16) * kRow + lane / 16 * 8);
    ldmatrix_x2(right, b_tile + (step % 2 * 8 + lane % 8) * kRow + lane / 8 % 2 * 8);
    mma_16816<T>(sum, left, right, sum);
    __syncwarp();
  }
  for (int i = 0; i < 4; ++i) c[(row + lane / 4 + i / 2 * 8) * n + column + lane % 4 * 2 + i % 2] = sum[i];
}

// out = x^T, both (16, 16): ldmatrix with trans.
__global__ void transpose_kernel(const __half* x, __half* out) {
  EGFORMER_SHARED(__half, tile, [16][16]);
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) tile[i / 16][i % 16] = x[i];
  __syncwarp();
  unsigned parts[4];
  ldmatrix_x4_trans(parts, &tile[lane % 16][lane / 16 * 8]);
  for (int matrix = 0; matrix < 4; ++matrix) {
    __half pair[2];
    memcpy(static_cast<void*>(pair), &parts[matrix], sizeof(pair));
    for (int e = 0; e < 2; ++e) {
      out[(matrix / 2 * 8 + lane / 4) * 16 + matrix % 2 * 8 + lane % 4 * 2 + e] = pair[e];
    }
  }
}

// out: for each thread the results of the collectives, 9 numbers.
__global__ void collectives_kernel(const int* x, int* out) {
  const int lane = threadIdx.x % 32, mine = x[threadIdx.x];
  int* result = out + threadIdx.x * 9;
  result[0] = __shfl_sync(kAllLanes, mine, 3);
  result[1] = __shfl_sync(kAllLanes, mine, 9, 8);
  result[2] = __shfl_up_sync(kAllLanes, mine, 2);
  result[3] = __shfl_down_sync(kAllLanes, mine, 5, 16);
  result[4] = __shfl_xor_sync(kAllLanes, mine, 17);
  result[5] = static_cast<int>(__ballot_sync(kAllLanes, mine > 0));
  result[6] = __any_sync(kAllLanes, mine > 90) * 2 + __all_sync(kAllLanes, mine > -100);
  result[7] = lane < 8 ? __shfl_xor_sync(0xffu, mine, 1) : -1;
  result[8] = __syncthreads_count(mine > 0);
}

// ---- each with one fault -------------------------------------------------------------------------------------------

__global__ void missing_barrier(float* out) {
  EGFORMER_SHARED(float, values, [64]);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

__global__ void barrier_for_some(float* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void wrong_mask(float* out) {
  float value = 1;
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(kAllLanes, value, 1);
  out[threadIdx.x] = value;
}

__global__ void own_lane_not_in_mask(float* out) { out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 1); }

__global__ void shuffle_from_outside(float* out) {
  out[threadIdx.x] = threadIdx.x % 32 < 16 ? __shfl_sync(0xffffu, 1.0f, 20) : 1.0f;
}

__global__ void early_exit(float* out) {
  if (threadIdx.x % 32 == 31) return;
  out[threadIdx.x] = warp_sum(1);
}

__global__ void collective_after_exit(float* out) {
  if (threadIdx.x % 32 == 0) return;
  out[threadIdx.x] = warp_sum(1);
}

__global__ void copy_not_waited_for(const float* x, float* out) {
  EGFORMER_SHARED(float, values, [256]);
  cp_async_16(values + threadIdx.x * 4, x + threadIdx.x * 4);
  cp_async_commit();
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x * 4];
}

__global__ void copy_waited_for_too_late(const float* x, float* out) {
  EGFORMER_SHARED(float, values, [256]);
  cp_async_16(values + threadIdx.x * 4, x + threadIdx.x * 4);
  cp_async_commit();
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x * 4];
  cp_async_wait<0>();
}

__global__ void unaligned_copy(const float* x, float* out) {
  EGFORMER_SHARED(float, values, [256]);
  cp_async_16(values, x + 1);
  out[threadIdx.x] = values[0];
}

__global__ void shared_overflow(float* out) {
  EGFORMER_SHARED(float, values, [63]);
  float* first = values;
  first[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void unwritten_output(float* out) {
  if (threadIdx.x != 17) out[threadIdx.x] = 1;
}

__global__ void early_without_waiting(float* out) {
  if (threadIdx.x % 2 == 0) wait_for_previous();
  if (threadIdx.x % 2 == 0) store(out + threadIdx.x, 1);
}

__global__ void early_access(const float* x, float* out) {
  const float value = load(x + threadIdx.x);
  wait_for_previous();
  out[threadIdx.x] = value;
}

__global__ void missing_syncwarp(float* out) {
  EGFORMER_SHARED(float, values, [64]);
  const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 32;
  values[threadIdx.x] = 1;
  __syncthreads();
  const float next = values[first + (lane + 1) % 32];
  values[threadIdx.x] = next + 1;  // a neighbour may still read this
  out[threadIdx.x] = 1;
}

__global__ void race_between_warps(float* out) {
  EGFORMER_SHARED(float, value, [1]);
  if (threadIdx.x % 32 == 0) value[0] = 1;
  __syncthreads();
  out[threadIdx.x] = value[0];
}

__global__ void race_between_blocks(float* out) {
  if (threadIdx.x == 0) out[0] = out[0] + 1;
}

__global__ void read_past_the_end(const float* x, float* out, int64_t count) {
  out[threadIdx.x] = x[threadIdx.x + count - 63];
}

}  // namespace

void sum(const float* x, float* out, int64_t count, int blocks, int threads) {
  launch("sum", sum_kernel, dim3(blocks), dim3(threads), 0, nullptr, x, out, count);
}
template <class T>
void product(const T* a, const T* b, float* c, int m, int n, int k) {
  constexpr size_t kShared = 2 * (16 + 8) * 24 * sizeof(T);
  launch("product", product_kernel<T>, dim3(n / 8, m / 16), dim3(32), kShared, nullptr, a, b, c, n, k);
}
template void product(const __half*, const __half*, float*, int, int, int);
template void product(const __nv_bfloat16*, const __nv_bfloat16*, float*, int, int, int);
template <>
void transpose(const __half* x, __half* out) {
  launch("transpose", transpose_kernel, dim3(1), dim3(32), 0, nullptr, x, out);
}
void collectives(const int* x, int* out) {
  launch("collectives", collectives_kernel, dim3(1), dim3(64), 0, nullptr, x, out);
}

const std::map<std::string, Faulty>& faulty_kernels() {
  using Plain = void (*)(float*);
  using Copying = void (*)(const float*, float*);
  const auto plain = [](const char* name, Plain kernel, int blocks = 1) -> Faulty {
    return [=](const float*, float* out, int64_t) { launch(name, kernel, dim3(blocks), dim3(64), 0, nullptr, out); };
  };
  const auto copying = [](const char* name, Copying kernel) -> Faulty {
    return [=](const float* x, float* out, int64_t) { launch(name, kernel, dim3(1), dim3(64), 0, nullptr, x, out); };
  };
  static const std::map<std::string, Faulty> kernels = {
      {"missing_barrier", plain("missing_barrier", missing_barrier)},
      {"divergent_barrier", plain("divergent_barrier", divergent_barrier)},
      {"barrier_for_some", plain("barrier_for_some", barrier_for_some)},
      {"wrong_mask", plain("wrong_mask", wrong_mask)},
      {"own_lane_not_in_mask", plain("own_lane_not_in_mask", own_lane_not_in_mask)},
      {"shuffle_from_outside", plain("shuffle_from_outside", shuffle_from_outside)},
      {"early_exit", plain("early_exit", early_exit)},
      {"collective_after_exit", plain("collective_after_exit", collective_after_exit)},
      {"copy_not_waited_for", copying("copy_not_waited_for", copy_not_waited_for)},
      {"copy_waited_for_too_late", copying("copy_waited_for_too_late", copy_waited_for_too_late)},
      {"unaligned_copy", copying("unaligned_copy", unaligned_copy)},
      {"shared_overflow", plain("shared_overflow", shared_overflow)},
      {"unwritten_output", plain("unwritten_output", unwritten_output)},
      {"early_without_waiting",
       [](const float*, float* out, int64_t) {
         launch_early("early_without_waiting", early_without_waiting, dim3(1), dim3(64), nullptr, out);
       }},
      {"early_access", [](const float* x, float* out,
                          int64_t) { launch_early("early_access", early_access, dim3(1), dim3(64), nullptr, x, out); }},
      {"missing_syncwarp", plain("missing_syncwarp", missing_syncwarp)},
      {"race_between_warps", plain("race_between_warps", race_between_warps)},
      {"race_between_blocks", plain("race_between_blocks", race_between_blocks, 2)},
      {"read_past_the_end",
       [](const float* x, float* out, int64_t count) {
         launch("read_past_the_end", read_past_the_end, dim3(1), dim3(64), 0, nullptr, x, out, count);
       }},
  };
  return kernels;
}

}  // namespace egformer
