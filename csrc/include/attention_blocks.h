// What forward and backward of modality_attention share on the CPU: shapes, kept slots, packing of keys and values.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "block_math.h"

namespace egformer {

inline int64_t padded(int64_t count) { return ceil_div(count, kColumnTile) * kColumnTile; }

struct Shape {
  int64_t batch, heads, queries, dim, modalities, keys, slots;
  int64_t wide() const { return padded(dim); }
};

inline Shape shape_of(const Tensor& q, const Tensor& k, const std::optional<Tensor>& index) {
  return {q.size(0), q.size(1), q.size(2), q.size(3), k.size(1), k.size(3), index ? index->size(1) : k.size(1)};
}

// The kept slots of a sample, in order: which slot, which modality.
struct Kept {
  std::vector<int64_t> slot, modality;
  int64_t count() const { return static_cast<int64_t>(slot.size()); }
};

inline std::vector<Kept> kept_of(const Shape& s, const std::optional<Tensor>& index) {
  std::vector<Kept> kept(s.batch);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t j = 0; j < s.slots; ++j) {
      const int64_t m = index ? read<int64_t>(*index)[b * s.slots + j] : j;
      if (m < 0 || m >= s.modalities) continue;
      kept[b].slot.push_back(j);
      kept[b].modality.push_back(m);
    }
  }
  return kept;
}

// count rows of D values at `source`, to a dense (count, wide) block with zeros behind D.
template <class T>
void load_rows(const T* source, int64_t stride, int64_t count, int64_t dim, int64_t wide, Accumulate<T>* out) {
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t d = 0; d < wide; ++d)
      out[n * wide + d] = d < dim ? static_cast<Accumulate<T>>(source[n * stride + d]) : 0;
  }
}

// The same transposed, to (D, ld) from column `first` on.
template <class T>
void load_columns(const T* source, int64_t stride, int64_t count, int64_t dim, int64_t ld, Accumulate<T>* out) {
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t d = 0; d < dim; ++d) out[d * ld + n] = static_cast<Accumulate<T>>(source[n * stride + d]);
  }
}

template <class T>
const T* head(const Tensor& t, int64_t b, int64_t h) {
  return read<T>(t) + b * t.stride(0) + h * t.stride(1);
}
template <class T>
const T* slot_head(const Tensor& t, int64_t b, int64_t m, int64_t h) {
  return read<T>(t) + b * t.stride(0) + m * t.stride(1) + h * t.stride(2);
}

// Keys and values of one (sample, head), packed; bias per key, -inf behind the last one. Forward reads values by row,
// the gradient of q reads keys by row.
template <class A>
struct Packed {
  int64_t total, ld;
  std::vector<A> keys_t, values_t, rows, prior;
};

template <class T>
Packed<Accumulate<T>> pack(const Shape& s, const Kept& kept, const Tensor& k, const Tensor& v,
                           const std::optional<Tensor>& bias, int64_t b, int64_t h, bool backward) {
  using A = Accumulate<T>;
  Packed<A> p;
  p.total = kept.count() * s.keys;
  p.ld = padded(p.total);
  p.keys_t.assign(s.dim * p.ld, A(0));
  p.rows.assign(p.ld * s.wide(), A(0));
  p.values_t.assign(backward ? s.dim * p.ld : 0, A(0));
  p.prior.assign(p.ld, -std::numeric_limits<A>::infinity());
  for (int64_t i = 0; i < kept.count(); ++i) {
    const T* keys = slot_head<T>(k, b, kept.modality[i], h);
    const T* values = slot_head<T>(v, b, kept.modality[i], h);
    const int64_t first = i * s.keys;
    load_columns<T>(keys, k.stride(3), s.keys, s.dim, p.ld, p.keys_t.data() + first);
    load_rows<T>(backward ? keys : values, (backward ? k : v).stride(3), s.keys, s.dim, s.wide(),
                 p.rows.data() + first * s.wide());
    if (backward) load_columns<T>(values, v.stride(3), s.keys, s.dim, p.ld, p.values_t.data() + first);
    const A prior = bias ? read<A>(*bias)[b * s.slots + kept.slot[i]] : A(0);
    std::fill_n(p.prior.begin() + first, s.keys, prior);
  }
  return p;
}

}  // namespace egformer
