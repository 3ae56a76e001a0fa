// The CUDA kernels of modality_attention as torch ops: pads D, allocates, finds device and stream, launches.
#include <iterator>

#include "attention_params.h"
#include "bindings.h"

namespace egformer {
namespace {

using Optional = std::optional<Tensor>;

int64_t kernel_dim(int64_t dim) {
  for (const int64_t size : kHeadDims) {
    if (size >= dim) return size;
  }
  STD_TORCH_CHECK(false, "modality_attention: the CUDA kernels take D up to 128, got ", dim);
}
// float64 and larger D have no kernels here.
bool goes_to_reference(const Tensor& q) {
  return q.scalar_type() == ScalarType::Double || q.size(3) > kHeadDims[std::size(kHeadDims) - 1];
}

// As the kernels read it: D filled up with zeros to one of kHeadDims, rows dense and on 16-byte addresses.
Tensor kernel_rows(const Tensor& t) {
  const int64_t last = t.dim() - 1, dim = kernel_dim(t.size(last)), chunk = 16 / t.element_size();
  if (dim != t.size(last)) return dense(torch::stable::pad(t, {0, dim - t.size(last)}));
  bool fits = t.stride(last) == 1 && reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0;
  for (int64_t i = 0; i < last; ++i) fits = fits && t.stride(i) % chunk == 0;
  if (fits) return t;
  Tensor copy = torch::stable::new_empty(t, t.sizes());
  return torch::stable::copy_(copy, t);
}
Tensor without_padding(Tensor t, int64_t dim) {
  return t.size(t.dim() - 1) == dim ? t : dense(torch::stable::narrow(t, t.dim() - 1, 0, dim));
}

QueryStrides query_strides(const Tensor& q) { return {q.stride(0), q.stride(1), q.stride(2)}; }
KeyStrides key_strides(const Tensor& k) { return {k.stride(0), k.stride(1), k.stride(2), k.stride(3)}; }

AttentionParams params_of(const Tensor& q, const Tensor& k, const Tensor& v, const Optional& index,
                          const Optional& bias, double scale, const Tensor& out, const Tensor& lse) {
  AttentionParams p{};
  p.batch = q.size(0), p.heads = q.size(1), p.queries = q.size(2), p.dim = q.size(3);
  p.modalities = k.size(1), p.keys = k.size(3), p.slots = index ? index->size(1) : k.size(1);
  p.scale = static_cast<float>(scale);
  p.q = q.const_data_ptr(), p.k = k.const_data_ptr(), p.v = v.const_data_ptr();
  p.q_strides = query_strides(q), p.k_strides = key_strides(k), p.v_strides = key_strides(v);
  p.index = read<int64_t>(index), p.bias = read<float>(bias);
  p.out = out.mutable_data_ptr(), p.lse = write<float>(lse);
  return p;
}

std::tuple<Tensor, Tensor> attention(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Optional& index_,
                                     const Optional& bias_, double scale) {
  if (goes_to_reference(q_)) {
    return call_reference<2>("egformer_fast::modality_attention_reference", q_, k_, v_, index_, bias_, scale);
  }
  const OnDevice here(q_);
  const Tensor q = kernel_rows(q_), k = kernel_rows(k_), v = kernel_rows(v_);
  const Optional index = dense(index_), bias = dense(bias_);
  const Tensor out = torch::stable::new_empty(q, q.sizes());
  const Tensor lse = torch::stable::new_empty(q, {q.size(0), q.size(1), q.size(2)}, ScalarType::Float);
  const AttentionParams p = params_of(q, k, v, index, bias, scale, out, lse);
  dispatch_cuda(q.scalar_type(), [&](auto type) { launch_modality_attention<decltype(type)>(p, here.stream); });
  return {without_padding(out, q_.size(3)), lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attention_backward(const Tensor& d_out_, const Tensor& q_, const Tensor& k_,
                                                              const Tensor& v_, const Optional& index_,
                                                              const Optional& bias_, const Tensor& out_,
                                                              const Tensor& lse_, double scale) {
  if (goes_to_reference(q_)) {
    return call_reference<4>("egformer_fast::modality_attention_backward_reference", d_out_, q_, k_, v_, index_, bias_,
                             out_, lse_, scale);
  }
  const OnDevice here(q_);
  const Tensor d_out = kernel_rows(d_out_), q = kernel_rows(q_), k = kernel_rows(k_), v = kernel_rows(v_);
  const Tensor out = kernel_rows(dense(out_)), lse = dense(lse_);
  const Optional index = dense(index_), bias = dense(bias_);
  const Tensor d_q = torch::stable::new_empty(q, q.sizes()), d_k = torch::stable::new_empty(k, k.sizes()),
               d_v = torch::stable::new_empty(v, v.sizes());
  AttentionBackwardParams b{};
  b.forward = params_of(q, k, v, index, bias, scale, out, lse);
  const Tensor d_bias =
      bias ? torch::stable::new_empty(lse, {b.forward.batch, b.forward.slots}) : torch::stable::new_empty(lse, {0});
  const Tensor scratch = scratch_memory(q, attention_scratch(b.forward));
  b.d_out = d_out.const_data_ptr(), b.d_out_strides = query_strides(d_out);
  b.d_q = d_q.mutable_data_ptr(), b.d_k = d_k.mutable_data_ptr(), b.d_v = d_v.mutable_data_ptr();
  b.d_bias = bias ? write<float>(d_bias) : nullptr, b.scratch = write<float>(scratch);
  dispatch_cuda(q.scalar_type(),
                [&](auto type) { launch_modality_attention_backward<decltype(type)>(b, here.stream); });
  const int64_t dim = q_.size(3);
  return {without_padding(d_q, dim), without_padding(d_k, dim), without_padding(d_v, dim), d_bias};
}

}  // namespace
}  // namespace egformer

STABLE_TORCH_LIBRARY_IMPL(egformer_fast, CUDA, m) {
  m.impl("modality_attention", TORCH_BOX(&egformer::attention));
  m.impl("modality_attention_cuda", TORCH_BOX(&egformer::attention));
  m.impl("modality_attention_backward", TORCH_BOX(&egformer::attention_backward));
  m.impl("modality_attention_backward_cuda", TORCH_BOX(&egformer::attention_backward));
}
