// Where 16-byte accesses are possible.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace egformer {

// Whether every row of `channels` values, whose starts differ by multiples of the strides, is a whole number of aligned
// 16-byte pieces.
template <class T>
bool is_vectorizable(const T* data, int64_t channels, std::initializer_list<int64_t> strides) {
  constexpr int64_t kSize = 16 / sizeof(T);
  if (reinterpret_cast<uintptr_t>(data) % 16 != 0 || channels % kSize != 0) return false;
  for (const int64_t stride : strides) {
    if (stride % kSize != 0) return false;
  }
  return true;
}

}  // namespace egformer
