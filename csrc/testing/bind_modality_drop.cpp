#include "../cuda/modality_drop.h"
#include "bindings.h"

namespace egformer {
namespace {

using Optional = std::optional<py::array>;

// (B, slots, N, C), or (B, N, C).
template <class T>
Rows<T> rows(const Optional& array) {
  if (!array) return {};
  const int last = static_cast<int>(array->ndim()) - 1;
  return {data<T>(*array), stride(*array, 0), last == 3 ? stride(*array, 1) : 0, stride(*array, last - 1)};
}

void forward(const py::array& x, const py::array& score, int64_t keep, const Optional& present,
             const Optional& priority, float threshold, bool per_batch, const Optional& survivors,
             const py::array& fused, const py::array& index, const py::array& weight) {
  const DropShape shape{x.shape(0), x.shape(1), x.shape(2), x.shape(3), keep};
  const DropScores scores{data<float>(score), data<float>(priority), data<bool>(present), threshold, per_batch};
  with_type(x, [&](auto type) {
    using T = decltype(type);
    const DropOutputs<T> outputs{data<T>(survivors), data<T>(fused), data<int64_t>(index), data<float>(weight)};
    modality_drop<T>(rows<T>(x), scores, shape, outputs, nullptr);
  });
}

void backward(const Optional& d_survivors, const Optional& d_fused, const Optional& d_weight, const py::array& x,
              const py::array& score, const py::array& index, const py::array& weight, const py::array& d_x,
              const py::array& d_score) {
  const DropShape shape{x.shape(0), x.shape(1), x.shape(2), x.shape(3), index.shape(1)};
  Scratch scratch(drop_backward_scratch(shape));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    const DropGradients<T> gradients{rows<T>(d_survivors), rows<T>(d_fused), data<float>(d_weight)};
    modality_drop_backward<T>(gradients, rows<T>(x), data<float>(score), data<int64_t>(index), data<float>(weight),
                              shape, scratch.data(), data<T>(d_x), data<float>(d_score), nullptr);
  });
}

const Binding binding([](py::module_& m) {
  m.def("modality_drop", forward);
  m.def("modality_drop_backward", backward);
});

}  // namespace
}  // namespace egformer
