// The state of the block that runs now: its threads, what each waits for, its shared memory. Private to this folder.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "fiber.h"
#include "runtime.h"

namespace simt {

struct Thread {
  Fiber fiber;
  Size3 index;
  unsigned number, lane, warp;  // number: linear in the block
  enum State { kReady, kInBarrier, kInWarp, kExited } state;
  bool waited;                   // for the kernel before an early one
  std::string waits_in;          // for the deadlock report
  std::vector<Copy> open_group;  // cp.async before its commit
  std::deque<std::vector<Copy>> groups;
};

// A warp collective that some of its lanes have reached.
struct Collective {
  const char* kind;
  unsigned mask, arrived;
  std::array<void*, 32> payload;
  Site site;
  void* order;  // address that stands for this instance in the thread sanitizer
};

struct Warp {
  unsigned alive = 0;
  std::vector<Collective> open;
};

struct Barrier {
  unsigned arrived = 0, count = 0;  // count: threads whose predicate holds
  Reduce reduce = Reduce::kNone;
  Site site;
  void* order = nullptr;
};

struct SharedArray {
  char* data;
  size_t bytes, mapped;
};

struct Block {
  unsigned threads = 0, alive = 0;
  std::vector<Warp> warps;
  Barrier barrier;
  int reduced = 0;  // result of the last barrier
  std::map<const void*, SharedArray> shared;
  void* dynamic = nullptr;
  size_t shared_bytes = 0;
};

extern Block* block;
extern Thread* current;
extern Counters* tally;  // of the kernel that runs

// Suspends the running thread until wake().
void wait(Thread::State state, const std::string& where);
void wake(unsigned thread_number);
void* fresh_order();

using Complete = void (*)(unsigned mask, const std::array<void*, 32>& payload);
// The last lane of the mask to arrive runs complete; ordered: memory accesses before it come before those after it.
void collective(const char* kind, unsigned mask, void* payload, Complete complete, bool ordered, Site site);

void check_shared();  // writes past the end of an array
void free_shared();
void settle_accesses();  // adds what note_access has gathered to the tally

}  // namespace simt
