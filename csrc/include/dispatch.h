// From a tensor's dtype to a C++ type, and what the CPU kernels share: strides, accumulation types, blocks.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

#include "isa.h"
#include "sizes.h"

namespace egformer {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// bfloat16 as its bits: the compiler vectorises these conversions, and knows _Float16 itself.
struct BFloat16 {
  uint16_t bits;
  EGFORMER_INLINE operator float() const {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
  }
  static EGFORMER_INLINE BFloat16 round(float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, sizeof(wide));
    const uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
    // A NaN must stay one: rounding could carry its payload away.
    const uint32_t quiet = (wide >> 16) | 0x40;
    return {static_cast<uint16_t>((wide & 0x7fffffff) > 0x7f800000 ? quiet : rounded)};
  }
};
using Half = _Float16;

// float64 sums for float64, float32 for the rest.
template <class T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
EGFORMER_INLINE T narrow(Accumulate<T> value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16::round(value);
  } else {
    return static_cast<T>(value);
  }
}

// run(T{}) with the C++ type of a dtype.
template <class Run>
void dispatch(ScalarType dtype, Run&& run) {
  switch (dtype) {
    case ScalarType::Float:
      return run(float{});
    case ScalarType::Double:
      return run(double{});
    case ScalarType::BFloat16:
      return run(BFloat16{});
    case ScalarType::Half:
      return run(Half{});
    default:
      STD_TORCH_CHECK(false, "egformer_fast: dtype must be float32, float64, bfloat16 or float16");
  }
}

inline ScalarType accumulate_dtype(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

template <class T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* write(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Work is cut into blocks of a fixed number of elements, so that results do not depend on the number of threads.
constexpr int64_t kBlockElements = 16384;

inline int64_t block_tokens(int64_t channels) {
  return std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, channels));
}

// Rows of the last dimension must be dense; the other strides are free.
inline Tensor rows(const Tensor& tensor) {
  return tensor.stride(tensor.dim() - 1) == 1 || tensor.size(tensor.dim() - 1) == 1 ? tensor
                                                                                    : torch::stable::contiguous(tensor);
}
inline Tensor dense(const Tensor& tensor) { return torch::stable::contiguous(tensor); }
inline std::optional<Tensor> dense(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional<Tensor>(dense(*tensor)) : std::nullopt;
}

}  // namespace egformer
