// The variables that CUDA gives every kernel; the scheduler sets them before a thread goes on.
#pragma once

#include <vector_types.h>

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;
