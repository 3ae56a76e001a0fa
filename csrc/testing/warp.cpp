// Barriers and warp collectives.
#include <cstdlib>
#include <cstring>

#include "block.h"

namespace simt {
namespace {

bool same_place(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string hex(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

// The instance that this lane joins: one that waits for it at this place, or a new one.
size_t find_or_open(Warp& warp, const char* kind, unsigned mask, Site site) {
  for (size_t i = 0; i < warp.open.size(); ++i) {
    const Collective& open = warp.open[i];
    if ((open.mask & mask) == 0) continue;
    if (open.mask != mask || std::strcmp(open.kind, kind) != 0 || !same_place(open.site, site)) {
      fail("warp divergence: " + std::string(kind) + " with mask " + hex(mask) + " at " + describe(site) + " meets " +
           open.kind + " with mask " + hex(open.mask) + " at " + describe(open.site));
    }
    return i;
  }
  warp.open.push_back({kind, mask, 0, {}, site, fresh_order()});
  return warp.open.size() - 1;
}

}  // namespace

void fail(const std::string& message) { throw Error(message); }

std::string describe(const Site& site) {
  const char* name = std::strrchr(site.file_name(), '/');
  return std::string(name != nullptr ? name + 1 : site.file_name()) + ":" + std::to_string(site.line());
}

void collective(const char* kind, unsigned mask, void* payload, Complete complete, bool ordered, Site site) {
  const Unwatched unwatched;
  Thread& me = *current;
  Warp& warp = block->warps[me.warp];
  const std::string where = std::string(kind) + " at " + describe(site);
  if ((mask >> me.lane & 1) == 0) {
    fail(where + ": lane " + std::to_string(me.lane) + " is not in its own mask " + hex(mask));
  }
  if ((mask & ~warp.alive) != 0) {
    fail(where + ": mask " + hex(mask) + " names lanes that have exited or never were (alive: " + hex(warp.alive) +
         ")");
  }
  const size_t place = find_or_open(warp, kind, mask, site);
  Collective& open = warp.open[place];
  open.arrived |= 1u << me.lane;
  open.payload[me.lane] = payload;
  void* const order = open.order;
  if (ordered) release_order(order);
  if (open.arrived == mask) {
    const Collective whole = open;
    warp.open.erase(warp.open.begin() + static_cast<std::ptrdiff_t>(place));
    tally->collectives++;
    if (complete != nullptr) complete(mask, whole.payload);
    for (unsigned l = 0; l < 32; ++l) {
      if ((mask >> l & 1) != 0 && l != me.lane) wake(me.warp * 32 + l);
    }
  } else {
    wait(Thread::kInWarp, where + " with mask " + hex(mask));
  }
  if (ordered) acquire_order(order);
}

int barrier(Reduce reduce, int predicate, Site site) {
  const Unwatched unwatched;
  Barrier& now = block->barrier;
  if (now.arrived == 0) {
    now = Barrier{0, 0, reduce, site, fresh_order()};
  } else if (now.reduce != reduce || !same_place(now.site, site)) {
    fail("divergent barrier: some threads are in __syncthreads at " + describe(now.site) + ", others at " +
         describe(site));
  }
  void* const order = now.order;
  now.arrived++;
  now.count += predicate != 0;
  release_order(order);
  if (now.arrived == block->threads) {
    const int count = static_cast<int>(now.count), all = now.count == block->threads, any = now.count > 0;
    block->reduced = reduce == Reduce::kCount ? count : reduce == Reduce::kAnd ? all : any;
    now.arrived = 0;
    tally->barriers++;
    for (unsigned i = 0; i < block->threads; ++i) {
      if (i != current->number) wake(i);
    }
  } else {
    wait(Thread::kInBarrier, "__syncthreads at " + describe(site));
  }
  acquire_order(order);
  return block->reduced;
}

void sync_warp(unsigned mask, Site site) { collective("__syncwarp", mask, nullptr, nullptr, true, site); }

unsigned active_mask() { return block->warps[current->warp].alive; }

unsigned ballot(const char* kind, unsigned mask, bool predicate, Site site) {
  struct Vote {
    bool predicate;
    unsigned result;
  } vote{predicate, 0};
  collective(
      kind, mask, &vote,
      [](unsigned lanes, const std::array<void*, 32>& payload) {
        unsigned result = 0;
        for (unsigned l = 0; l < 32; ++l) {
          if ((lanes >> l & 1) != 0 && static_cast<Vote*>(payload[l])->predicate) result |= 1u << l;
        }
        for (unsigned l = 0; l < 32; ++l) {
          if ((lanes >> l & 1) != 0) static_cast<Vote*>(payload[l])->result = result;
        }
      },
      false, site);
  return vote.result;
}

void shuffle(const char* kind, unsigned mask, unsigned source, void* value, size_t bytes, Site site) {
  struct Exchange {
    unsigned source;
    void* value;
    size_t bytes;
    char before[16];
  } exchange{source, value, bytes, {}};
  std::memcpy(exchange.before, value, bytes);
  collective(
      kind, mask, &exchange,
      [](unsigned lanes, const std::array<void*, 32>& payload) {
        for (unsigned l = 0; l < 32; ++l) {
          if ((lanes >> l & 1) == 0) continue;
          const auto* mine = static_cast<Exchange*>(payload[l]);
          if ((lanes >> mine->source & 1) == 0) {
            fail("a shuffle reads lane " + std::to_string(mine->source) + ", which is not in its mask " + hex(lanes));
          }
          std::memcpy(mine->value, static_cast<Exchange*>(payload[mine->source])->before, mine->bytes);
        }
      },
      false, site);
}

}  // namespace simt
