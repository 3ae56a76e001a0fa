// The executable for the address, undefined-behaviour and thread sanitizers: runs one case by name, or lists them.
// Exit status 0: no report; 1: the SIMT layer's own error; a sanitizer exits with its own.
#include "checks.h"

#include <cstdio>

#include "runtime.h"
#include "samples.h"

namespace egformer {
namespace {

const Check samples("samples", [] {
  const std::vector<float> x = some_values<float>(1003);
  std::vector<float> out(3);
  sum(x.data(), out.data(), 1003, 3, 128);
  std::vector<int> numbers(64), results(64 * 9);
  collectives(numbers.data(), results.data());
});

int run(const std::string& name) {
  if (const auto check = Check::all().find(name); check != Check::all().end()) {
    check->second();
    return 0;
  }
  const std::vector<float> x = some_values<float>(256);
  std::vector<float> out(64);
  faulty_kernels().at(name)(x.data(), out.data(), 256);
  return 0;
}

}  // namespace
}  // namespace egformer

int main(int count, char** arguments) {
  if (count != 2) {
    for (const auto& [name, check] : egformer::Check::all()) std::puts(name.c_str());
    return 0;
  }
  try {
    return egformer::run(arguments[1]);
  } catch (const simt::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
