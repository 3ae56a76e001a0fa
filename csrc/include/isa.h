// One kernel, compiled for several instruction sets, chosen at run time. A kernel is a struct with
//
//     template <int kBytes> EGFORMER_INLINE void run() const;      kBytes: the width of a vector register
//
// run_best(kernel) calls run() from a function that is compiled for the widest vectors of this processor; everything
// that run() calls must be EGFORMER_INLINE, or it stays compiled for the oldest processor. EGFORMER_ISA=base|v3|v4 in
// the environment lowers the choice, which the tests use to run every version that a machine can.
#pragma once

#include <cstdlib>
#include <cstring>

#define EGFORMER_INLINE inline __attribute__((always_inline))

namespace egformer {

enum class Isa { kBase, kV3, kV4 };

#if defined(__x86_64__)

inline Isa detect_isa() {
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("x86-64-v3"), v4 = __builtin_cpu_supports("x86-64-v4");
  const char* wanted = std::getenv("EGFORMER_ISA");
  if (wanted == nullptr || std::strcmp(wanted, "v4") == 0) return v4 ? Isa::kV4 : v3 ? Isa::kV3 : Isa::kBase;
  return v3 && std::strcmp(wanted, "v3") == 0 ? Isa::kV3 : Isa::kBase;
}

template <class Kernel>
__attribute__((target("arch=x86-64-v3"))) void run_v3(const Kernel& kernel) {
  kernel.template run<32>();
}
template <class Kernel>
__attribute__((target("arch=x86-64-v4"))) void run_v4(const Kernel& kernel) {
  kernel.template run<64>();
}

template <class Kernel>
void run_best(const Kernel& kernel) {
  static const Isa isa = detect_isa();
  if (isa == Isa::kV4) return run_v4(kernel);
  if (isa == Isa::kV3) return run_v3(kernel);
  kernel.template run<16>();
}

#else

template <class Kernel>
void run_best(const Kernel& kernel) {
  kernel.template run<16>();
}

#endif

}  // namespace egformer
