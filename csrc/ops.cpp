// Every schema of the library, on one screen. egformer_fast/ops/<op>.py holds the same strings for installs without
// this library; a test compares the two. A plain name is the automatic choice of torch's dispatcher, a suffix forces a
// backend.
#include <torch/csrc/stable/library.h>

#include <string>

namespace {

constexpr const char* kSuffixes[] = {"", "_reference", "_cpu",
#ifdef EGFORMER_CUDA
                                     "_cuda"
#endif
};

#define EGFORMER_WEIGHTS "Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor? present"
#define EGFORMER_QKV "Tensor q, Tensor k, Tensor v, Tensor? index, Tensor? bias"

constexpr const char* kSchemas[][2] = {
    {"modality_score", "(Tensor x, " EGFORMER_WEIGHTS ") -> (Tensor score, Tensor pooled)"},
    {"modality_score_backward", "(Tensor d_score, Tensor pooled, " EGFORMER_WEIGHTS
                                ") -> (Tensor d_pooled, Tensor d_w1, Tensor d_b1, Tensor d_w2, Tensor d_b2)"},
    {"modality_drop",
     "(Tensor x, Tensor score, SymInt keep, Tensor? present, Tensor? priority, float threshold, bool per_batch, bool "
     "gather) -> (Tensor survivors, Tensor fused, Tensor index, Tensor weight)"},
    {"modality_drop_backward",
     "(Tensor? d_survivors, Tensor? d_fused, Tensor? d_weight, Tensor x, Tensor score, Tensor index, Tensor weight) -> "
     "(Tensor d_x, Tensor d_score)"},
    {"modality_attention", "(" EGFORMER_QKV ", float scale) -> (Tensor out, Tensor lse)"},
    {"modality_attention_backward",
     "(Tensor d_out, " EGFORMER_QKV
     ", Tensor out, Tensor lse, float scale) -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_bias)"},
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(egformer_fast, m) {
  for (const auto& [name, schema] : kSchemas) {
    for (const char* suffix : kSuffixes) {
      m.def((std::string(name) + suffix + schema).c_str());
    }
  }
}
