// How a kernel becomes callable from Python tests, with numpy arrays: each bind_<op>.cpp holds one
//
//     const Binding binding([](py::module_& m) { m.def("modality_score", ...); });
//
// bfloat16, which numpy lacks, travels as its bits: uint16 means __nv_bfloat16.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "device.cuh"

namespace egformer {

namespace py = pybind11;

struct Binding {
  using Bind = void (*)(py::module_&);
  explicit Binding(Bind bind) { all().push_back(bind); }
  static std::vector<Bind>& all() {
    static std::vector<Bind> binds;
    return binds;
  }
};

// run(T{}) with the kernel's type for an array.
template <class Run>
void with_type(const py::array& array, Run&& run) {
  if (array.dtype().is(py::dtype::of<float>())) return run(float{});
  if (array.dtype().kind() == 'f' && array.itemsize() == 2) return run(__half{});
  if (array.dtype().is(py::dtype::of<uint16_t>())) return run(__nv_bfloat16{});
  throw std::invalid_argument("arrays must be float32, float16, or uint16 for bfloat16");
}

template <class T>
T* data(const py::array& array) {
  if (array.itemsize() != sizeof(T)) throw std::invalid_argument("an array has the wrong item size");
  return static_cast<T*>(const_cast<void*>(array.data()));
}
template <class T>
T* data(const std::optional<py::array>& array) {
  return array ? data<T>(*array) : nullptr;
}
// In elements.
inline int64_t stride(const py::array& array, int dimension) {
  return array.strides(dimension) / static_cast<int64_t>(array.itemsize());
}

// Scratch memory of NaN that starts at a sector of 32 bytes, as a GPU's does: the counters see where it starts.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : memory_(floats + 7, NAN) {}
  float* data() { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory_.data()) + 31) / 32 * 32); }

 private:
  std::vector<float> memory_;
};

}  // namespace egformer
