// What the bindings of the CUDA kernels share: the device and stream of the caller, dtypes, float64.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <array>
#include <tuple>

#include "dispatch.h"

namespace egformer {

// torch's current stream on a device. Looked up by name: the library is not linked to libtorch_cuda, for it loads
// beside a torch without CUDA, too, and Stream::nativeHandle of the stable ABI needs torch 2.13.
inline cudaStream_t current_stream(int32_t device) {
  using Function = AOTITorchError (*)(int32_t, void**);
  static const auto get = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD);
    return library ? reinterpret_cast<Function>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  STD_TORCH_CHECK(get, "egformer_fast: this torch has no CUDA, so no CUDA kernel can run");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(get(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

// Makes the tensor's device current while it lives; `stream` is torch's current one there.
struct OnDevice {
  explicit OnDevice(const Tensor& tensor)
      : guard(tensor.get_device_index()), stream(current_stream(tensor.get_device_index())) {}
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
};

// run(T{}) with the kernels' C++ type of a dtype.
template <class Run>
void dispatch_cuda(ScalarType dtype, Run&& run) {
  switch (dtype) {
    case ScalarType::Float:
      return run(float{});
    case ScalarType::Half:
      return run(__half{});
    case ScalarType::BFloat16:
      return run(__nv_bfloat16{});
    default:
      STD_TORCH_CHECK(false, "egformer_fast: the CUDA kernels take float32, bfloat16 or float16");
  }
}

template <class T>
const T* read(const std::optional<Tensor>& tensor) {
  return tensor ? read<T>(*tensor) : nullptr;
}

inline Tensor scratch_memory(const Tensor& like, int64_t floats) {
  return torch::stable::new_empty(like, {floats}, ScalarType::Float);
}

// float64 has no CUDA kernels: an op hands such tensors to its reference, which serves every device.
template <size_t kOutputs, class... Arguments>
auto call_reference(const char* name, const Arguments&... arguments) {
  std::array<StableIValue, std::max(sizeof...(Arguments), kOutputs)> stack{torch::stable::detail::from(arguments)...};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
    return std::make_tuple(torch::stable::detail::to<Tensor>(stack[kIndex])...);
  }(std::make_index_sequence<kOutputs>{});
}

}  // namespace egformer
