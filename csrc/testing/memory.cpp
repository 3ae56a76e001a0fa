// Shared memory, asynchronous copies, and the count of memory requests.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <tuple>
#include <unordered_map>

#include "block.h"

#ifdef EGFORMER_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace simt {
namespace {

constexpr size_t kMargin = 64;  // behind an array: reads there give NaN, writes there are found at the end of a block

// Fresh pages for the thread sanitizer: memory that is used again would order one block after another.
char* allocate(size_t bytes, size_t alignment) {
#ifdef EGFORMER_TSAN
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  (void)alignment;
#else
  void* data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (data == nullptr) throw std::bad_alloc();
#endif
  return static_cast<char*>(data);
}

void poison([[maybe_unused]] const SharedArray& array, [[maybe_unused]] bool poisoned) {
#ifdef EGFORMER_ASAN
  if (poisoned) {
    __asan_poison_memory_region(array.data + array.bytes, kMargin);
  } else {
    __asan_unpoison_memory_region(array.data + array.bytes, kMargin);
  }
#endif
}

}  // namespace

void* shared_array(const void* declaration, size_t bytes, size_t alignment) {
  const Unwatched unwatched;
  const auto found = block->shared.find(declaration);
  if (found != block->shared.end()) return found->second.data;
  SharedArray array{allocate(bytes + kMargin, std::max<size_t>(alignment, 16)), bytes, bytes + kMargin};
  std::memset(array.data, 0xFF, array.mapped);
  poison(array, true);
  block->shared[declaration] = array;
  block->shared_bytes += (bytes + 15) / 16 * 16;
  return array.data;
}

void* dynamic_shared() {
  if (block->dynamic == nullptr) fail("dynamic shared memory is used, but the launch asks for none");
  return block->dynamic;
}

void check_shared() {
  for (const auto& [declaration, array] : block->shared) {
    poison(array, false);
    for (size_t i = array.bytes; i < array.mapped; ++i) {
      if (static_cast<unsigned char>(array.data[i]) != 0xFF) {
        fail("a write " + std::to_string(i - array.bytes) + " B past the end of a shared array of " +
             std::to_string(array.bytes) + " B");
      }
    }
  }
}

void free_shared() {
  for (const auto& [declaration, array] : block->shared) {
    poison(array, false);
#ifdef EGFORMER_TSAN
    munmap(array.data, array.mapped);
#else
    std::free(array.data);
#endif
  }
  block->shared.clear();
}

void queue_copy(const Copy& copy) {
  const Unwatched unwatched;
  current->open_group.push_back(copy);
}

void commit_copies() {
  const Unwatched unwatched;
  current->groups.push_back(std::move(current->open_group));
  current->open_group.clear();
}

bool next_landed(int pending, Copy* copy) {
  const Unwatched unwatched;
  auto& groups = current->groups;
  while (groups.size() > static_cast<size_t>(pending)) {
    if (groups.front().empty()) {
      groups.pop_front();
      continue;
    }
    *copy = groups.front().back();
    groups.front().pop_back();
    return true;
  }
  return false;
}

// ---- counting ----------------------------------------------------------------------------------------------------

bool count_memory = false;

namespace {

struct Request {
  Access access;
  std::map<unsigned, std::pair<uintptr_t, size_t>> lanes;  // by lane: address and bytes
};
// A place in the source: file, line, column.
using Place = std::tuple<const char*, unsigned, unsigned>;
std::map<std::pair<Place, unsigned>, std::vector<Request>> requests;  // by place and warp, in order
std::map<std::pair<Place, unsigned>, size_t> executions;              // by place and thread

int64_t sectors(const Request& request) {
  std::set<uintptr_t> touched;
  for (const auto& [lane, access] : request.lanes) {
    const auto& [address, bytes] = access;
    for (uintptr_t sector = address / 32; sector <= (address + bytes - 1) / 32; ++sector) touched.insert(sector);
  }
  return static_cast<int64_t>(touched.size());
}

// Further passes: 32 banks of 4 bytes serve 128 bytes at a time, so that wide accesses go by halves or quarters.
int64_t conflicts(const Request& request) {
  const size_t bytes = request.lanes.begin()->second.second;
  const unsigned lanes_at_once = bytes <= 4 ? 32 : static_cast<unsigned>(128 / bytes);
  int64_t extra = 0;
  for (unsigned first = 0; first < 32; first += lanes_at_once) {
    std::array<std::set<uintptr_t>, 32> words;
    const auto end = request.lanes.lower_bound(first + lanes_at_once);
    for (auto lane = request.lanes.lower_bound(first); lane != end; ++lane) {
      const auto& [address, size] = lane->second;
      for (uintptr_t word = address / 4; word <= (address + size - 1) / 4; ++word) words[word % 32].insert(word);
    }
    size_t most = 1;
    for (const auto& bank : words) most = std::max(most, bank.size());
    extra += static_cast<int64_t>(most) - 1;
  }
  return extra;
}

}  // namespace

void note_access(Access access, const void* address, size_t bytes, Site site) {
  const Unwatched unwatched;
  const Place place{site.file_name(), site.line(), site.column()};
  const size_t time = executions[{place, current->number}]++;
  auto& of_warp = requests[{place, current->warp}];
  if (of_warp.size() <= time) of_warp.resize(time + 1);
  of_warp[time].access = access;
  of_warp[time].lanes[current->lane] = {reinterpret_cast<uintptr_t>(address), bytes};
}

void settle_accesses() {
  for (const auto& [place, of_warp] : requests) {
    for (const Request& request : of_warp) {
      switch (request.access) {
        case Access::kLoad:
          tally->loads++;
          tally->load_sectors += sectors(request);
          break;
        case Access::kStore:
          tally->stores++;
          tally->store_sectors += sectors(request);
          break;
        case Access::kShared:
          tally->shared_requests++;
          tally->bank_conflicts += conflicts(request);
          break;
      }
    }
  }
  requests.clear();
  executions.clear();
}

}  // namespace simt
