// What the launchers of modality_attention share on the host: the checks of their arguments, the choice of D.
#pragma once

#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "attention_params.h"
#include "device.cuh"

namespace egformer {

[[noreturn]] inline void refuse_attention(const std::string& what) {
  throw std::invalid_argument("modality_attention: " + what);
}

inline void check_aligned(const char* name, const void* data, std::initializer_list<int64_t> strides, size_t size) {
  if (reinterpret_cast<uintptr_t>(data) % 16 != 0) {
    refuse_attention(std::string(name) + " must start at a multiple of 16 bytes");
  }
  for (const int64_t stride : strides) {
    if (stride * static_cast<int64_t>(size) % 16 == 0) continue;
    refuse_attention(std::string(name) + " must have strides of a multiple of " + std::to_string(16 / size) +
                     " elements, got " + std::to_string(stride));
  }
}
inline void check_aligned(const char* name, const void* data, const QueryStrides& s, size_t size) {
  check_aligned(name, data, {s.batch, s.head, s.row}, size);
}
inline void check_aligned(const char* name, const void* data, const KeyStrides& s, size_t size) {
  check_aligned(name, data, {s.batch, s.modality, s.head, s.row}, size);
}

inline void check_attention(const AttentionParams& p, size_t size) {
  check_aligned("q", p.q, p.q_strides, size);
  check_aligned("k", p.k, p.k_strides, size);
  check_aligned("v", p.v, p.v_strides, size);
  check_aligned("out", p.out, {}, size);
  // An index of no element may have no address.
  if (p.index == nullptr && p.slots != p.modalities && p.batch * p.slots > 0) {
    refuse_attention("without index, slots must be modalities = " + std::to_string(p.modalities) + ", got " +
                     std::to_string(p.slots));
  }
}

inline dim3 grid_of(const char* name, int64_t blocks) {
  if (blocks > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument(std::string(name) + ": needs " + std::to_string(blocks) +
                                " blocks, a launch takes 2^31");
  }
  return dim3(static_cast<unsigned>(blocks));
}

template <class Run>
void with_head_dim(int64_t dim, const Run& run) {
  switch (dim) {
    case 16:
      return run(std::integral_constant<int, 16>());
    case 32:
      return run(std::integral_constant<int, 32>());
    case 64:
      return run(std::integral_constant<int, 64>());
    case 128:
      return run(std::integral_constant<int, 128>());
    default:
      refuse_attention("D must be 16, 32, 64 or 128 (pad with zeros), got " + std::to_string(dim));
  }
}

}  // namespace egformer
