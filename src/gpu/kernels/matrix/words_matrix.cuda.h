/* SPDX-License-Identifier: Apache-2.0 */
/* words_matrix.cuda.h - the words of words.glsl.h for matrices, for CUDA, whose own are of 16 x 16
 * x 16. */
#include <mma.h>

#include "gpu/kernels/words.cuda.h"

#define SUBGROUP        32
#define TM              16
#define TN              16
#define TK              16
#define SUBGROUP_NUMBER (ITEM / 32)
#define HALF            half
#define MATRIX_SUM      nvcuda::wmma::fragment<nvcuda::wmma::accumulator, TM, TN, TK, float>
#define MATRIX_LEFT \
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, TM, TN, TK, half, nvcuda::wmma::row_major>
#define MATRIX_RIGHT \
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, TM, TN, TK, half, nvcuda::wmma::col_major>
#define MATRIX_ZERO(m)                     nvcuda::wmma::fill_fragment(m, 0.0f)
#define MATRIX_LOAD_ROWS(m, s, at, row)    nvcuda::wmma::load_matrix_sync(m, s + (at), row)
#define MATRIX_LOAD_COLUMNS(m, s, at, row) nvcuda::wmma::load_matrix_sync(m, s + (at), row)
#define MATRIX_ADD_PRODUCT(c, a, b)        nvcuda::wmma::mma_sync(c, a, b, c)
#define MATRIX_STORE(m, s, at, row) \
    nvcuda::wmma::store_matrix_sync(s + (at), m, row, nvcuda::wmma::mem_row_major)
#define KERNEL_MATRIX(name) \
    extern "C" __global__ void __launch_bounds__(128) kernel_##name(const __grid_constant__ Args p)
