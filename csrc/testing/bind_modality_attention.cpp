// modality_attention's launchers for numpy arrays. Arrays that come back are given, so that tests can poison them.
#include "attention_params.h"
#include "bindings.h"

namespace egformer {
namespace {

QueryStrides query_strides(const py::array& q) { return {stride(q, 0), stride(q, 1), stride(q, 2)}; }
KeyStrides key_strides(const py::array& k) { return {stride(k, 0), stride(k, 1), stride(k, 2), stride(k, 3)}; }

AttentionParams params_of(const py::array& q, const py::array& k, const py::array& v,
                          const std::optional<py::array>& index, const std::optional<py::array>& bias, float scale,
                          const py::array& out, const py::array& lse) {
  AttentionParams p{};
  p.batch = q.shape(0), p.heads = q.shape(1), p.queries = q.shape(2), p.dim = q.shape(3);
  p.modalities = k.shape(1), p.keys = k.shape(3),
  p.slots = index  ? index->shape(1)
            : bias ? bias->shape(1)
                   : p.modalities;
  p.scale = scale;
  p.q = q.data(), p.k = k.data(), p.v = v.data();
  p.q_strides = query_strides(q), p.k_strides = key_strides(k), p.v_strides = key_strides(v);
  p.index = data<int64_t>(index), p.bias = data<float>(bias);
  p.out = const_cast<void*>(out.data()), p.lse = data<float>(lse);
  return p;
}

void* writable(const py::array& array) { return const_cast<void*>(array.data()); }

const Binding binding([](py::module_& m) {
  m.def("modality_attention",
        [](const py::array& q, const py::array& k, const py::array& v, const std::optional<py::array>& index,
           const std::optional<py::array>& bias, float scale, const py::array& out, const py::array& lse) {
          const AttentionParams p = params_of(q, k, v, index, bias, scale, out, lse);
          with_type(q, [&](auto type) { launch_modality_attention<decltype(type)>(p, nullptr); });
        });
  m.def("modality_attention_scratch", [](const py::array& q, const py::array& k, int64_t slots) {
    AttentionParams p{};
    p.batch = q.shape(0), p.heads = q.shape(1), p.queries = q.shape(2), p.dim = q.shape(3);
    p.modalities = k.shape(1), p.keys = k.shape(3), p.slots = slots;
    return attention_scratch(p);
  });
  m.def("modality_attention_backward",
        [](const py::array& d_out, const py::array& q, const py::array& k, const py::array& v,
           const std::optional<py::array>& index, const std::optional<py::array>& bias, const py::array& out,
           const py::array& lse, float scale, const py::array& d_q, const py::array& d_k, const py::array& d_v,
           const std::optional<py::array>& d_bias, const py::array& scratch) {
          AttentionBackwardParams p{};
          p.forward = params_of(q, k, v, index, bias, scale, out, lse);
          p.d_out = d_out.data(), p.d_out_strides = query_strides(d_out);
          p.d_q = writable(d_q), p.d_k = writable(d_k), p.d_v = writable(d_v), p.d_bias = data<float>(d_bias);
          p.scratch = data<float>(scratch);
          with_type(q, [&](auto type) { launch_modality_attention_backward<decltype(type)>(p, nullptr); });
        });
});

}  // namespace
}  // namespace egformer
