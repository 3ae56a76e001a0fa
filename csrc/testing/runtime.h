// The SIMT-on-CPU layer: executes CUDA kernels, compiled by g++, on a machine without a GPU. For tests only.
//
// One CUDA thread is one fibre; the blocks of a grid run one after another, their threads take turns on one OS thread.
// A thread runs until it waits: in a barrier, or in a warp collective, whose last lane to arrive computes the result
// for all. Mistakes that a GPU would answer with silence become errors: a barrier that not all threads reach, a
// collective whose mask and lanes disagree, a read of shared memory before its write (NaN), a copy that nobody waited
// for, a kernel that begins early and does not wait for the one before it. Races need the thread sanitizer,
// out-of-bounds global reads the address sanitizer: build with EGFORMER_TSAN or EGFORMER_ASAN. The files of this folder
// but simt.h are then compiled without the sanitizer, so that it watches the kernels and not their scheduler.
//
// Not modelled: the text of inline PTX, weak memory order, blocks that wait for each other, speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <source_location>
#include <stdexcept>
#include <string>

namespace simt {

using Site = std::source_location;

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] void fail(const std::string& message);
std::string describe(const Site& site);

// ---- launch ------------------------------------------------------------------------------------------------------

struct Size3 {
  unsigned x, y, z;
};
// Runs body once for every thread of the grid; throws Error with the kernel's name. early: each thread must call
// wait_for_previous, and before it must not access global memory.
void launch(const char* name, Size3 grid, Size3 block, size_t shared_bytes, const std::function<void()>& body,
            bool early = false);
void wait_for_previous();

// Lane of the running thread in its warp, 0 to 31.
unsigned lane();

// ---- barriers and warp collectives -------------------------------------------------------------------------------

enum class Reduce { kNone, kCount, kAnd, kOr };
int barrier(Reduce reduce, int predicate, Site site);
void sync_warp(unsigned mask, Site site);
unsigned ballot(const char* kind, unsigned mask, bool predicate, Site site);
// value becomes the value of lane `source` (which must be in the mask).
void shuffle(const char* kind, unsigned mask, unsigned source, void* value, size_t bytes, Site site);
unsigned active_mask();

// ldmatrix: lane 8j + i names row i (16 bytes) of the 8x8 matrix j; out receives one register for each matrix.
void load_matrices(int matrices, bool transpose, const void* row, unsigned* out, Site site);
// mma m16n8k16 with float accumulators; widen turns 16 bits into a float.
struct Product {
  const unsigned *a, *b;
  const float* c;
  float* d;
};
void multiply(float (*widen)(uint16_t), const Product& product, Site site);

// ---- shared memory and asynchronous copies -----------------------------------------------------------------------

// The block's array for this declaration: exact size, filled with 0xFF (NaN in every floating type).
void* shared_array(const void* declaration, size_t bytes, size_t alignment);
void* dynamic_shared();

struct Copy {
  void* to;
  const void* from;
};
void queue_copy(const Copy& copy);
void commit_copies();
// The next copy that must have landed when at most `pending` groups may be under way; false: no more.
bool next_landed(int pending, Copy* copy);

// ---- counters ----------------------------------------------------------------------------------------------------

struct Counters {
  int64_t launches = 0, blocks = 0, barriers = 0, collectives = 0, matrix_products = 0, shared_bytes = 0;
  // Only with count_memory: requests are of one warp; a sector has 32 bytes; a conflict is a further pass over the
  // banks.
  int64_t loads = 0, load_sectors = 0, stores = 0, store_sectors = 0, shared_requests = 0, bank_conflicts = 0;
};
std::map<std::string, Counters>& counters();  // by kernel name

extern bool count_memory;
enum class Access { kLoad, kStore, kShared };
extern bool is_early;  // the kernel that runs
void check_waited(Site site);
// Lanes of a warp that execute the same line for the n-th time make one request.
void note_access(Access access, const void* address, size_t bytes, Site site);
inline void note(Access access, const void* address, size_t bytes, Site site) {
  if (is_early && access != Access::kShared) check_waited(site);
  if (count_memory) note_access(access, address, bytes, site);
}

}  // namespace simt
