#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <new>

#ifdef EGFORMER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef EGFORMER_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif

#ifndef __x86_64__
#error "the SIMT-on-CPU layer switches stacks in x86-64 assembly"
#endif

// Saves the callee-saved registers and the floating-point modes on the old stack, takes them from the new one.
extern "C" void egformer_switch_stack(void** save, void* to);
asm(R"(
.text
.globl egformer_switch_stack
.type egformer_switch_stack, @function
egformer_switch_stack:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  subq $8, %rsp
  stmxcsr (%rsp); fnstcw 4(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  ldmxcsr (%rsp); fldcw 4(%rsp)
  addq $8, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size egformer_switch_stack, .-egformer_switch_stack
)");

namespace simt {
namespace {

constexpr size_t kStackBytes = 128 << 10, kGuardBytes = 4096;
void* scheduler_stack;
#ifdef EGFORMER_ASAN
void* scheduler_fake_stack;
const void* scheduler_bottom;
size_t scheduler_bytes;
#endif
#ifdef EGFORMER_TSAN
void* scheduler_fiber;
#endif

char* new_stack() {
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) throw std::bad_alloc();
  mprotect(stack, kGuardBytes, PROT_NONE);
  return static_cast<char*>(stack);
}

}  // namespace

void prepare(Fiber& fiber, void (*entry)()) {
#ifdef EGFORMER_TSAN
  // A stack that was used before would look like memory shared between two threads.
  if (fiber.stack != nullptr) munmap(fiber.stack, kStackBytes);
  fiber.stack = nullptr;
  fiber.sanitizer = __tsan_create_fiber(0);
#endif
  if (fiber.stack == nullptr) fiber.stack = new_stack();
#ifdef EGFORMER_ASAN
  __asan_unpoison_memory_region(fiber.stack + kGuardBytes, kStackBytes - kGuardBytes);
  fiber.sanitizer = nullptr;
#endif
  // What egformer_switch_stack pops: modes, six registers, the return address; entry then finds an aligned stack.
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  --top;
  auto* modes = reinterpret_cast<uint32_t*>(top);
  asm volatile("stmxcsr %0\n fnstcw %1" : "=m"(modes[0]), "=m"(modes[1]));
  fiber.stack_pointer = top;
}

void arrived() {
#ifdef EGFORMER_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_bytes);
#endif
}

void enter(Fiber& fiber) {
#ifdef EGFORMER_ASAN
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, kStackBytes);
#endif
#ifdef EGFORMER_TSAN
  scheduler_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber.sanitizer, 1);  // 1: the switch itself orders nothing
#endif
  egformer_switch_stack(&scheduler_stack, fiber.stack_pointer);
#ifdef EGFORMER_ASAN
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

void leave(Fiber& fiber, [[maybe_unused]] bool forever) {
#ifdef EGFORMER_ASAN
  __sanitizer_start_switch_fiber(forever ? nullptr : &fiber.sanitizer, scheduler_bottom, scheduler_bytes);
#endif
#ifdef EGFORMER_TSAN
  __tsan_switch_to_fiber(scheduler_fiber, 1);
#endif
  egformer_switch_stack(&fiber.stack_pointer, scheduler_stack);
#ifdef EGFORMER_ASAN
  __sanitizer_finish_switch_fiber(fiber.sanitizer, &scheduler_bottom, &scheduler_bytes);
#endif
}

#ifdef EGFORMER_TSAN
void retire(Fiber& fiber) {
  static std::deque<void*> retired;
  retired.push_back(fiber.sanitizer);
  while (retired.size() > 3000) {
    __tsan_destroy_fiber(retired.front());
    retired.pop_front();
  }
}
void release_order(void* at) { __tsan_release(at); }
void acquire_order(void* at) { __tsan_acquire(at); }
Unwatched::Unwatched() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
Unwatched::~Unwatched() {
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}
#else
void retire(Fiber&) {}
void release_order(void*) {}
void acquire_order(void*) {}
Unwatched::Unwatched() = default;
Unwatched::~Unwatched() = default;
#endif

}  // namespace simt
