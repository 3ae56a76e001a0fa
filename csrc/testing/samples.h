// The sample kernels of the SIMT layer's own tests (samples.cu).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace egformer {

void sum(const float* x, float* out, int64_t count, int blocks, int threads);
template <class T>
void product(const T* a, const T* b, float* c, int m, int n, int k);  // a (m, k), b (n, k), c (m, n)
template <class T>
void transpose(const T* x, T* out);        // (16, 16)
void collectives(const int* x, int* out);  // 64 threads, 9 results each

// out has 64 entries; x has `count`, at least 256.
using Faulty = std::function<void(const float* x, float* out, int64_t count)>;
const std::map<std::string, Faulty>& faulty_kernels();

}  // namespace egformer
