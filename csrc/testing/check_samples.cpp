// The tensor-core samples under the sanitizers; apart from checks.cpp, which does not know CUDA's types.
#include "checks.h"
#include "device.cuh"
#include "samples.h"

namespace egformer {
namespace {

const Check product_check("product", [] {
  const auto a = some_values<__nv_bfloat16>(32 * 48), b = some_values<__nv_bfloat16>(16 * 48);
  std::vector<float> c(32 * 16);
  product(a.data(), b.data(), c.data(), 32, 16, 48);
  const auto x = some_values<__half>(256);
  std::vector<__half> out(256);
  transpose(x.data(), out.data());
});

}  // namespace
}  // namespace egformer
