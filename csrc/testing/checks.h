// Cases of the sanitizers' executable (checks.cpp): each check_<op>.cpp holds one
//
//     const Check check("modality_score", [] { ... });
//
// which runs the kernels over a few sizes. Inputs live in arrays of exact size, so that the address sanitizer sees an
// access past the end; results are the matter of the Python tests.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace egformer {

struct Check {
  Check(const char* name, void (*run)()) { all()[name] = run; }
  static std::map<std::string, std::function<void()>>& all() {
    static std::map<std::string, std::function<void()>> checks;
    return checks;
  }
};

// Repeatable values between -1 and 1.
template <class T>
std::vector<T> some_values(size_t count, unsigned seed = 1) {
  std::vector<T> values(count);
  unsigned state = seed * 2654435761u + 12345u;
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = T(static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
  }
  return values;
}

}  // namespace egformer
