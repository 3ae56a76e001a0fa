// Runs a grid: block after block, its threads in turn, until all have exited or none can go on.
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <vector>

#include "block.h"
#include "builtin_variables.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {

Block* block;
Thread* current;
Counters* tally;
bool is_early = false;

namespace {

constexpr unsigned kMaxThreads = 1024, kMaxGridYZ = 65535;
constexpr size_t kMaxShared = 227 << 10;

std::vector<Thread> threads;
std::vector<unsigned> ready;
const std::function<void()>* body;
std::exception_ptr error;
char kernel_order;  // the end of a kernel comes before what the host does next

void run_thread() {
  arrived();
  try {
    (*body)();
    const Unwatched unwatched;
    if (!current->groups.empty() || !current->open_group.empty()) {
      fail("thread " + std::to_string(current->number) + " exits before its cp.async copies have been waited for");
    }
    if (is_early && !current->waited) {
      fail("thread " + std::to_string(current->number) + " exits without wait_for_previous");
    }
    block->alive--;
    block->warps[current->warp].alive &= ~(1u << current->lane);
  } catch (...) {
    error = std::current_exception();
  }
  current->state = Thread::kExited;
  release_order(&kernel_order);
  leave(current->fiber, true);
  std::abort();
}

void start_thread(unsigned number, Size3 shape) {
  Thread& thread = threads[number];
  thread.index = {number % shape.x, number / shape.x % shape.y, number / (shape.x * shape.y)};
  thread.number = number;
  thread.lane = number % 32;
  thread.warp = number / 32;
  thread.state = Thread::kReady;
  thread.waited = false;
  thread.open_group.clear();
  thread.groups.clear();
  block->warps[thread.warp].alive |= 1u << thread.lane;
  prepare(thread.fiber, run_thread);
  ready.push_back(number);
}

void resume(Thread& thread) {
  current = &thread;
  threadIdx = {thread.index.x, thread.index.y, thread.index.z};
  enter(thread.fiber);
  current = nullptr;
}

std::string deadlock() {
  std::map<std::string, int> groups;
  for (unsigned i = 0; i < block->threads; ++i) {
    groups[threads[i].state == Thread::kExited ? "exited" : "wait in " + threads[i].waits_in]++;
  }
  std::string text = "deadlock:";
  for (const auto& [what, count] : groups) text += "\n    " + std::to_string(count) + " threads " + what;
  return text;
}

// The block that runs; its memory is given back after an error too.
struct BlockScope {
  explicit BlockScope(Block& now) { block = &now; }
  ~BlockScope() {
    settle_accesses();
    free_shared();
    for (unsigned i = 0; i < block->threads; ++i) retire(threads[i].fiber);
    block = nullptr;
  }
};

void run_block(Size3 index, Size3 shape, size_t shared_bytes) {
  Block now;
  const BlockScope scope(now);
  now.threads = now.alive = shape.x * shape.y * shape.z;
  now.warps.resize((now.threads + 31) / 32);
  blockIdx = {index.x, index.y, index.z};
  tally->blocks++;
  if (shared_bytes > 0) now.dynamic = shared_array(&now, shared_bytes, 16);
  ready.clear();
  for (unsigned i = 0; i < now.threads; ++i) start_thread(i, shape);
  while (now.alive > 0 && !error) {
    if (ready.empty()) fail(deadlock());
    std::vector<unsigned> turn;
    turn.swap(ready);
    std::sort(turn.begin(), turn.end());
    for (unsigned number : turn) {
      resume(threads[number]);
      if (error) break;
    }
  }
  if (error) std::rethrow_exception(error);
  check_shared();
  tally->shared_bytes = std::max<int64_t>(tally->shared_bytes, static_cast<int64_t>(now.shared_bytes));
  if (now.shared_bytes > kMaxShared) fail("a block takes " + std::to_string(now.shared_bytes) + " B of shared memory");
}

void check_sizes(Size3 grid, Size3 shape, size_t shared_bytes) {
  const auto text = [](Size3 s) {
    return std::to_string(s.x) + " x " + std::to_string(s.y) + " x " + std::to_string(s.z);
  };
  const size_t count = static_cast<size_t>(shape.x) * shape.y * shape.z;
  if (count == 0 || count > kMaxThreads || shape.z > 64) fail("a block of " + text(shape) + " threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > kMaxGridYZ || grid.z > kMaxGridYZ || grid.x >> 31) {
    fail("a grid of " + text(grid) + " blocks");
  }
  if (shared_bytes > kMaxShared) fail(std::to_string(shared_bytes) + " B of dynamic shared memory");
}

}  // namespace

std::map<std::string, Counters>& counters() {
  static std::map<std::string, Counters> all;
  return all;
}

unsigned lane() { return current->lane; }

void wait(Thread::State state, const std::string& where) {
  current->state = state;
  current->waits_in = where;
  leave(current->fiber, false);
}

void wake(unsigned thread_number) {
  threads[thread_number].state = Thread::kReady;
  ready.push_back(thread_number);
}

void* fresh_order() {
  // One address for each instance: an address that is used again would order what nothing orders.
  constexpr size_t kAddresses = 1 << 20;
  static char* const addresses = static_cast<char*>(std::malloc(kAddresses));
  static size_t next = 0;
  return addresses + next++ % kAddresses;
}

void wait_for_previous() { current->waited = true; }

void check_waited(Site site) {
  if (!current->waited) fail("global memory before wait_for_previous at " + describe(site));
}

void launch(const char* name, Size3 grid, Size3 shape, size_t shared_bytes, const std::function<void()>& body_,
            bool early) {
  const Unwatched unwatched;
  tally = &counters()[name];
  tally->launches++;
  body = &body_;
  is_early = early;
  error = nullptr;
  blockDim = dim3(shape.x, shape.y, shape.z);
  gridDim = dim3(grid.x, grid.y, grid.z);
  Size3 index{0, 0, 0};
  const auto where = [&] {
    return std::string(name) + ", block (" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
           std::to_string(index.z) + "): ";
  };
  try {
    check_sizes(grid, shape, shared_bytes);
    threads.resize(std::max<size_t>(threads.size(), kMaxThreads));
    for (index.z = 0; index.z < grid.z; ++index.z) {
      for (index.y = 0; index.y < grid.y; ++index.y) {
        for (index.x = 0; index.x < grid.x; ++index.x) run_block(index, shape, shared_bytes);
      }
    }
  } catch (const Error& problem) {
    throw Error(where() + problem.what());
  }
  acquire_order(&kernel_order);
}

}  // namespace simt
