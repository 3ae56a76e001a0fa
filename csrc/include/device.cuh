// What every kernel of csrc/cuda includes, and all it may use beyond plain CUDA C++.
//
// Two makers of the same names: nvcc (device_gpu.cuh: inline PTX, real launches) and, for tests without a GPU, g++ with
// EGFORMER_SIMT (csrc/testing/simt.h: a model that executes every thread and checks it). A kernel therefore
//   - declares shared memory with EGFORMER_SHARED(float, sums, [32][8]) or EGFORMER_DYNAMIC_SHARED(float, sums)
//     (16-aligned, at most one in a kernel),
//   - is started by launch("name", kernel, grid, block, shared_bytes, stream, arguments...), which throws
//     std::runtime_error with the name when the launch is refused,
//   - may be started by launch_early(...), while the kernel before it still runs: its threads call wait_for_previous()
//     before they touch global memory. The kernel before it calls let_next_begin() and is itself started by launch:
//     waiting for one that had begun early too would not be waiting for those before,
//   - reads and writes global memory by load, store, load_vector, store_vector (16 bytes), and shared memory by
//     load_shared, store_shared where the tests should count sectors and bank conflicts; plain accesses are allowed,
//   - brings memory nearer by prefetch, copies asynchronously by cp_async_16, cp_async_commit, cp_async_wait<N>,
//   - multiplies by ldmatrix_x4, ldmatrix_x4_trans, ldmatrix_x2, ldmatrix_x2_trans and mma_16816<T>,
//   - takes powers of two by exp2_approx.
// Warp collectives and barriers keep their CUDA names.
#pragma once

#ifdef EGFORMER_SIMT
#include "../testing/simt.h"
#else
#include "device_gpu.cuh"
#endif

#include <cstdint>

#include "sizes.h"

namespace egformer {

constexpr unsigned kAllLanes = 0xffffffffu;

// ---- conversions: to nearest, ties to even -------------------------------------------------------------------------

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Two 16-bit values in one register, `low` in the lower half: a fragment of mma_16816.
template <class T>
__device__ __forceinline__ unsigned pack(float low, float high) {
  const T pair[2] = {from_float<T>(low), from_float<T>(high)};
  unsigned bits;
  memcpy(&bits, pair, sizeof(bits));
  return bits;
}

// ---- 16 bytes at a time --------------------------------------------------------------------------------------------

template <class T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(T);
  T value[kSize];
};

#ifdef EGFORMER_SIMT
template <class T>
Vector<T> load_vector(const T* address, EGFORMER_HERE) {
  return load(reinterpret_cast<const Vector<T>*>(address), site);
}
template <class T>
void store_vector(T* address, const Vector<T>& value, EGFORMER_HERE) {
  store(reinterpret_cast<Vector<T>*>(address), value, site);
}
#else
template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* address) {
  const uint4 bits = *reinterpret_cast<const uint4*>(address);
  Vector<T> value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
template <class T>
__device__ __forceinline__ void store_vector(T* address, const Vector<T>& value) {
  uint4 bits;
  memcpy(&bits, &value, sizeof(bits));
  *reinterpret_cast<uint4*>(address) = bits;
}
#endif

// ---- reductions over a warp, the same value in every lane ----------------------------------------------------------

__device__ __forceinline__ float warp_sum(float value) {
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
  for (int bits = 16; bits > 0; bits /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, bits));
  return value;
}

}  // namespace egformer
