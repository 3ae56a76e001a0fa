// The matrix product of block_math.h, once per instruction set.
#include "block_math.h"

namespace egformer {

EGFORMER_CLONES void product(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                             int64_t rows, int64_t depth, int64_t columns, bool add) {
  product_any(a, lda, b, ldb, c, ldc, rows, depth, columns, add);
}
EGFORMER_CLONES void product(const double* a, int64_t lda, const double* b, int64_t ldb, double* c, int64_t ldc,
                             int64_t rows, int64_t depth, int64_t columns, bool add) {
  product_any(a, lda, b, ldb, c, ldc, rows, depth, columns, add);
}

}  // namespace egformer
