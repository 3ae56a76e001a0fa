// Uninitialised working memory of a kernel, aligned to cache lines.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace egformer {

template <class A>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<A*>(std::aligned_alloc(64, (static_cast<size_t>(count) * sizeof(A) + 64) / 64 * 64))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  A* at(int64_t i = 0) const { return data_.get() + i; }

 private:
  struct Free {
    void operator()(A* p) const { std::free(p); }
  };
  std::unique_ptr<A, Free> data_;
};

}  // namespace egformer
