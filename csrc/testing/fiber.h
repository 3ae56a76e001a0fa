// A stack of its own for every CUDA thread, and the switches between it and the scheduler (x86-64).
#pragma once

#include <cstddef>

namespace simt {

struct Fiber {
  char* stack = nullptr;
  void* stack_pointer = nullptr;
  void* sanitizer = nullptr;  // thread sanitizer: this fibre; address sanitizer: its fake stack
};

// Ready to start at entry, which must never return; a stack from an earlier call is used again.
void prepare(Fiber& fiber, void (*entry)());
// Called when prepare has returned on a new stack: tells the address sanitizer where it runs.
void arrived();
// From the scheduler into the fibre, until it leaves.
void enter(Fiber& fiber);
// From the running fibre back into the scheduler; `forever`: it has ended.
void leave(Fiber& fiber, bool forever);
// After a block: the thread sanitizer's record of the fibre is kept a while, so that it still knows past accesses.
void retire(Fiber& fiber);

// What the sanitizer should know of order between fibres, and what it should not look at.
void release_order(void* at);
void acquire_order(void* at);
struct Unwatched {
  Unwatched();
  ~Unwatched();
};

}  // namespace simt
