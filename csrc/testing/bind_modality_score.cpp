#include "../cuda/modality_score.h"
#include "bindings.h"

namespace egformer {
namespace {

using Optional = std::optional<py::array>;

template <class W>
ScoreWeights<W> weights(const py::array& w1, const py::array& b1, const py::array& w2, const py::array& b2) {
  return {data<W>(w1), data<W>(b1), data<W>(w2), data<W>(b2)};
}

void forward(const py::array& x, const py::array& w1, const py::array& b1, const py::array& w2, const py::array& b2,
             const Optional& present, const py::array& score, const py::array& pooled) {
  const ScoreShape shape{x.shape(0),  x.shape(1),   x.shape(2),   x.shape(3),
                         w1.shape(0), stride(x, 0), stride(x, 1), stride(x, 2)};
  Scratch scratch(score_scratch(shape));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    const auto run = [&](auto weight_type) {
      modality_score<T>(data<T>(x), weights<decltype(weight_type)>(w1, b1, w2, b2), data<bool>(present), shape,
                        scratch.data(), data<float>(score), data<float>(pooled), nullptr);
    };
    if (w1.itemsize() == 4) {
      run(float{});
    } else {
      run(T{});
    }
  });
}

void backward(const py::array& d_score, const py::array& pooled, const py::array& w1, const py::array& b1,
              const py::array& w2, const py::array& b2, const Optional& present, const py::array& d_pooled,
              const py::array& d_w1, const py::array& d_b1, const py::array& d_w2, const py::array& d_b2) {
  ScoreShape shape{};
  shape.batch = pooled.shape(0);
  shape.modalities = pooled.shape(1);
  shape.channels = pooled.shape(2);
  shape.hidden = w1.shape(0);
  Scratch scratch(score_backward_scratch(shape));
  with_type(w1, [&](auto type) {
    using W = decltype(type);
    const ScoreGradients<W> gradients{data<float>(d_pooled), data<W>(d_w1), data<W>(d_b1), data<W>(d_w2),
                                      data<W>(d_b2)};
    modality_score_backward<W>(data<float>(d_score), data<float>(pooled), weights<W>(w1, b1, w2, b2),
                               data<bool>(present), shape, scratch.data(), gradients, nullptr);
  });
}

const Binding binding([](py::module_& m) {
  m.def("modality_score", forward);
  m.def("modality_score_backward", backward);
});

}  // namespace
}  // namespace egformer
