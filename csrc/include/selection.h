// Which modalities modality_drop keeps, from their scores alone; the rules are in egformer_fast/ops/modality_drop.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace egformer {

template <class A>
struct Scores {
  const A* score;
  const A* priority;
  const bool* present;  // null: all
  int64_t batch, modalities;

  bool eligible(int64_t b, int64_t m) const {
    const int64_t i = b * modalities + m;
    return (present == nullptr || present[i]) && score[i] >= 0 && score[i] < std::numeric_limits<A>::infinity() &&
           !std::isnan(priority[i]);
  }
};

// position[m]: how many of all modalities come before m in the order of the batch means.
template <class A>
std::vector<int64_t> batch_order(const Scores<A>& s) {
  std::vector<double> mean(s.modalities);
  for (int64_t m = 0; m < s.modalities; ++m) {
    double total = 0;
    int64_t count = 0;
    for (int64_t b = 0; b < s.batch; ++b) {
      if (s.eligible(b, m)) {
        total += static_cast<double>(s.priority[b * s.modalities + m]);
        ++count;
      }
    }
    mean[m] = total / static_cast<double>(count);
    if (std::isnan(mean[m])) mean[m] = -std::numeric_limits<double>::infinity();
  }
  std::vector<int64_t> position(s.modalities, 0);
  for (int64_t m = 0; m < s.modalities; ++m) {
    for (int64_t other = 0; other < s.modalities; ++other) {
      position[m] += mean[other] > mean[m] || (mean[other] == mean[m] && other < m);
    }
  }
  return position;
}

// index and weight (keep entries each) of one sample; position is empty when samples rank for themselves.
template <class A>
void select(const Scores<A>& s, int64_t b, int64_t keep, double threshold, const std::vector<int64_t>& position,
            int64_t* index, A* weight) {
  const A* score = s.score + b * s.modalities;
  const A* priority = s.priority + b * s.modalities;
  const auto before = [&](int64_t other, int64_t m) {
    if (!position.empty()) return position[other] < position[m];
    return priority[other] > priority[m] || (priority[other] == priority[m] && other < m);
  };
  std::vector<char> kept(s.modalities, 0);
  A best = 0;
  for (int64_t m = 0; m < s.modalities; ++m) {
    if (!s.eligible(b, m)) continue;
    int64_t rank = 0;
    for (int64_t other = 0; other < s.modalities; ++other) rank += s.eligible(b, other) && before(other, m);
    kept[m] = rank < keep;
    if (kept[m]) best = std::max(best, score[m]);
  }
  int64_t count = 0;
  A total = 0;
  for (int64_t m = 0; m < s.modalities; ++m) {
    if (kept[m] && score[m] >= static_cast<A>(threshold) * best) {
      index[count++] = m;
      total += score[m];
    }
  }
  for (int64_t j = 0; j < keep; ++j) {
    if (j >= count) index[j] = -1;
    weight[j] = j >= count ? A(0) : total > 0 ? score[index[j]] / total : A(1) / static_cast<A>(count);
  }
}

}  // namespace egformer
