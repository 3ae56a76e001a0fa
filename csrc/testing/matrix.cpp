// ldmatrix and mma.sync: which lane's register holds which element (PTX ISA, "Matrix fragments for mma.m16n8k16").
#include <array>
#include <cstring>

#include "block.h"

namespace simt {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

struct Rows {
  const void* row;
  unsigned* out;
};

template <int kMatrices, bool kTranspose>
void distribute(unsigned, const std::array<void*, 32>& payload) {
  const auto row_of = [&](int i) { return static_cast<const char*>(static_cast<Rows*>(payload[i])->row); };
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    if (count_memory) {
      // Eight rows of 16 bytes are one pass over the banks when they start in eight different groups of four banks.
      unsigned passes[8] = {};
      unsigned most = 0;
      for (int i = 0; i < 8; ++i) {
        const unsigned group = reinterpret_cast<uintptr_t>(row_of(matrix * 8 + i)) / 16 % 8;
        most = std::max(most, ++passes[group]);
      }
      tally->shared_requests++;
      tally->bank_conflicts += most - 1;
    }
    for (int l = 0; l < 32; ++l) {
      uint16_t pair[2];
      for (int e = 0; e < 2; ++e) {
        const int own = l / 4, other = l % 4 * 2 + e;
        const int row = kTranspose ? other : own, column = kTranspose ? own : other;
        std::memcpy(&pair[e], row_of(matrix * 8 + row) + column * 2, 2);
      }
      std::memcpy(&static_cast<Rows*>(payload[l])->out[matrix], pair, 4);
    }
  }
}

struct Operands {
  Product product;
  float (*widen)(uint16_t);
};

float element(const unsigned* registers, int i, float (*widen)(uint16_t)) {
  return widen(static_cast<uint16_t>(registers[i / 2] >> (i % 2 * 16)));
}

void multiply_warp(unsigned, const std::array<void*, 32>& payload) {
  const auto operands_of = [&](int l) { return static_cast<Operands*>(payload[l]); };
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; ++l) {
    const Operands& mine = *operands_of(l);
    const int group = l / 4, pair = l % 4 * 2;
    for (int i = 0; i < 8; ++i) {
      a[group + i / 2 % 2 * 8][pair + i % 2 + i / 4 * 8] = element(mine.product.a, i, mine.widen);
    }
    for (int i = 0; i < 4; ++i) b[pair + i % 2 + i / 2 * 8][group] = element(mine.product.b, i, mine.widen);
  }
  float d[32][4];
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
      double sum = static_cast<double>(operands_of(l)->product.c[i]);
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(a[row][k]) * static_cast<double>(b[k][column]);
      d[l][i] = static_cast<float>(sum);
    }
  }
  // d may be c: written when all of c has been read.
  for (int l = 0; l < 32; ++l) std::memcpy(operands_of(l)->product.d, d[l], sizeof(d[l]));
  tally->matrix_products++;
}

}  // namespace

void load_matrices(int matrices, bool transpose, const void* row, unsigned* out, Site site) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("ldmatrix at " + describe(site) + ": a row is not 16-aligned");
  Rows rows{row, out};
  const Complete complete = matrices == 4 ? (transpose ? distribute<4, true> : distribute<4, false>)
                                          : (transpose ? distribute<2, true> : distribute<2, false>);
  collective("ldmatrix", kAllLanes, &rows, complete, false, site);
}

void multiply(float (*widen)(uint16_t), const Product& product, Site site) {
  Operands operands{product, widen};
  collective("mma", kAllLanes, &operands, multiply_warp, false, site);
}

}  // namespace simt
