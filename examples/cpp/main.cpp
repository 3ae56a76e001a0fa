// The ops from C++ without Python: load the library, call it through torch's dispatcher on the stable ABI, the way an
// AOTInductor program does. Prints which of four modalities survive in two frames.
//
//     example path/to/egformer_fast/_C.so
#include <dlfcn.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/stableivalue_conversions.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
namespace abi = torch::stable::detail;

int main(int count, char** arguments) {
  if (count != 2 || dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    std::fprintf(stderr, "usage: example path/to/_C.so%s%s\n", count == 2 ? "; " : "", count == 2 ? dlerror() : "");
    return 2;
  }
  // x: (B, M, N, C), modality m full of the number m; score: (B, M).
  const Tensor x = torch::stable::empty({2, 4, 6, 8}, ScalarType::Float);
  const Tensor score = torch::stable::empty({2, 4}, ScalarType::Float);
  float* tokens = static_cast<float*>(x.mutable_data_ptr());
  for (int64_t i = 0; i < 2 * 4 * 48; ++i) tokens[i] = static_cast<float>(i / 48 % 4);
  const std::array<float, 8> scores{0.9f, 0.1f, 0.3f, 0.2f, 0.2f, 0.4f, 0.1f, 0.6f};
  std::copy(scores.begin(), scores.end(), static_cast<float*>(score.mutable_data_ptr()));

  const std::optional<Tensor> none;
  std::array<StableIValue, 8> stack{abi::from(x),    abi::from(score), abi::from(int64_t{2}), abi::from(none),
                                    abi::from(none), abi::from(0.0),   abi::from(false),      abi::from(true)};
  if (torch_call_dispatcher("egformer_fast::modality_drop", "", stack.data(), TORCH_ABI_VERSION) != 0) return 1;
  const Tensor survivors = abi::to<Tensor>(stack[0]), fused = abi::to<Tensor>(stack[1]),
               index = abi::to<Tensor>(stack[2]);
  const Tensor weight = abi::to<Tensor>(stack[3]);
  const int64_t* kept = static_cast<const int64_t*>(index.const_data_ptr());
  const float* sums = static_cast<const float*>(fused.const_data_ptr());
  for (int b = 0; b < 2; ++b) {
    std::printf("frame %d keeps modalities %ld and %ld, fused value %.3f\n", b, static_cast<long>(kept[2 * b]),
                static_cast<long>(kept[2 * b + 1]), static_cast<double>(sums[48 * b]));
  }
  return survivors.size(1) == 2 && weight.size(1) == 2 ? 0 : 1;
}
