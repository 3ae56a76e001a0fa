// The CUDA language for g++: what device.cuh takes from nvcc on the GPU, a kernel takes from here in tests.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>  // types only; no CUDA library is linked
#include <math.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "builtin_variables.h"
#include "runtime.h"

// NVIDIA's headers define these as attributes that g++ does not know.
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)

// A static variable stands for the declaration: its address names the array among those of a block.
#define EGFORMER_SHARED(T, name, ...)               \
  static const char name##_declaration = 0;         \
  using name##_array = T __VA_ARGS__;               \
  name##_array& name = *static_cast<name##_array*>( \
      simt::shared_array(&name##_declaration, sizeof(name##_array), alignof(name##_array)))
#define EGFORMER_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(simt::dynamic_shared())

#define EGFORMER_HERE simt::Site site = simt::Site::current()

using std::max;
using std::min;

// ---- barriers and warp collectives ---------------------------------------------------------------------------------

inline void __syncthreads(EGFORMER_HERE) { simt::barrier(simt::Reduce::kNone, 0, site); }
inline int __syncthreads_count(int p, EGFORMER_HERE) { return simt::barrier(simt::Reduce::kCount, p, site); }
inline int __syncthreads_and(int p, EGFORMER_HERE) { return simt::barrier(simt::Reduce::kAnd, p, site); }
inline int __syncthreads_or(int p, EGFORMER_HERE) { return simt::barrier(simt::Reduce::kOr, p, site); }
inline void __syncwarp(unsigned mask = 0xffffffffu, EGFORMER_HERE) { simt::sync_warp(mask, site); }
inline unsigned __activemask() { return simt::active_mask(); }
inline unsigned __ballot_sync(unsigned mask, int p, EGFORMER_HERE) {
  return simt::ballot("__ballot_sync", mask, p != 0, site);
}
inline int __any_sync(unsigned mask, int p, EGFORMER_HERE) {
  return simt::ballot("__any_sync", mask, p != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int p, EGFORMER_HERE) {
  return simt::ballot("__all_sync", mask, p != 0, site) == mask;
}

// A source outside the lane's segment of `width` lanes leaves the value as it is.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EGFORMER_HERE) {
  const unsigned first = simt::lane() & ~(width - 1u);
  simt::shuffle("__shfl_sync", mask, first | (source & (width - 1u)), &value, sizeof(T), site);
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EGFORMER_HERE) {
  const unsigned lane = simt::lane(), source = lane ^ bits, end = (lane | (width - 1u)) + 1;
  simt::shuffle("__shfl_xor_sync", mask, source < end ? source : lane, &value, sizeof(T), site);
  return value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EGFORMER_HERE) {
  const unsigned lane = simt::lane(), end = (lane | (width - 1u)) + 1;
  simt::shuffle("__shfl_down_sync", mask, lane + delta < end ? lane + delta : lane, &value, sizeof(T), site);
  return value;
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EGFORMER_HERE) {
  const unsigned lane = simt::lane(), place = lane & (width - 1u);
  simt::shuffle("__shfl_up_sync", mask, place >= delta ? lane - delta : lane, &value, sizeof(T), site);
  return value;
}

// ---- arithmetic ----------------------------------------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x != 0 ? __builtin_clz(x) : 32; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
template <class T>
T __ldg(const T* address, EGFORMER_HERE) {
  simt::note(simt::Access::kLoad, address, sizeof(T), site);
  return *address;
}

inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  static_assert(sizeof(T) == 4 && (std::is_same_v<T, float> || std::is_integral_v<T>));
  auto* word = reinterpret_cast<uint32_t*>(address);
  uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    const auto next = __builtin_bit_cast(uint32_t, static_cast<T>(__builtin_bit_cast(T, old) + value));
    if (__atomic_compare_exchange_n(word, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
  }
  return __builtin_bit_cast(T, old);
}

namespace egformer {

inline float exp2_approx(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }

// ---- asynchronous copies: the destination is NaN until it has been waited for --------------------------------------

inline void cp_async_16(void* shared, const void* global, EGFORMER_HERE) {
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) % 16 != 0) {
    simt::fail("cp.async at " + simt::describe(site) + ": an address is not 16-aligned");
  }
  simt::note(simt::Access::kLoad, global, 16, site);
  static_cast<uint64_t*>(shared)[0] = ~uint64_t{0};
  static_cast<uint64_t*>(shared)[1] = ~uint64_t{0};
  simt::queue_copy({shared, global});
}
inline void cp_async_commit() { simt::commit_copies(); }
template <int kPending>
void cp_async_wait() {
  simt::Copy copy;
  while (simt::next_landed(kPending, &copy)) {
    for (int i = 0; i < 2; ++i) static_cast<uint64_t*>(copy.to)[i] = static_cast<const uint64_t*>(copy.from)[i];
  }
}

// ---- tensor cores --------------------------------------------------------------------------------------------------

namespace simt_detail {
// The row is read here too, where the sanitizers watch.
inline void load_matrices(int matrices, bool transpose, const void* row, unsigned* out, simt::Site site) {
  for (int i = 0; i < 2; ++i) static_cast<void>(static_cast<const volatile uint64_t*>(row)[i]);
  simt::load_matrices(matrices, transpose, row, out, site);
}
template <class T>
float widen(uint16_t bits) {
  return static_cast<float>(__builtin_bit_cast(T, bits));
}
}  // namespace simt_detail

inline void ldmatrix_x4(unsigned (&r)[4], const void* shared_row, EGFORMER_HERE) {
  simt_detail::load_matrices(4, false, shared_row, r, site);
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_row, EGFORMER_HERE) {
  simt_detail::load_matrices(4, true, shared_row, r, site);
}
inline void ldmatrix_x2(unsigned (&r)[2], const void* shared_row, EGFORMER_HERE) {
  simt_detail::load_matrices(2, false, shared_row, r, site);
}
inline void ldmatrix_x2_trans(unsigned (&r)[2], const void* shared_row, EGFORMER_HERE) {
  simt_detail::load_matrices(2, true, shared_row, r, site);
}
template <class T>
void mma_16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const float (&c)[4], EGFORMER_HERE) {
  simt::multiply(simt_detail::widen<T>, {a, b, c, d}, site);
}

// ---- memory and launch ---------------------------------------------------------------------------------------------

// An access that the counters see; unaligned ones are errors, as on the GPU.
template <class T>
void check_access(simt::Access access, const T* address, simt::Site site) {
  if (reinterpret_cast<uintptr_t>(address) % alignof(T) != 0) {
    simt::fail("misaligned access of " + std::to_string(sizeof(T)) + " B at " + simt::describe(site));
  }
  simt::note(access, address, sizeof(T), site);
}
template <class T>
T load(const T* address, EGFORMER_HERE) {
  check_access(simt::Access::kLoad, address, site);
  return *address;
}
template <class T>
void store(T* address, std::type_identity_t<T> value, EGFORMER_HERE) {
  check_access(simt::Access::kStore, address, site);
  *address = value;
}
template <class T>
T load_shared(const T* address, EGFORMER_HERE) {
  check_access(simt::Access::kShared, address, site);
  return *address;
}
template <class T>
void store_shared(T* address, std::type_identity_t<T> value, EGFORMER_HERE) {
  check_access(simt::Access::kShared, address, site);
  *address = value;
}

template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t, A... args) {
  simt::launch(name, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared,
               [&] { kernel(static_cast<P>(args)...); });
}
template <class... P, class... A>
void launch_early(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t, A... args) {
  simt::launch(
      name, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, 0, [&] { kernel(static_cast<P>(args)...); }, true);
}
inline void wait_for_previous() { simt::wait_for_previous(); }
inline void let_next_begin() {}
inline void prefetch(const void*) {}

}  // namespace egformer
