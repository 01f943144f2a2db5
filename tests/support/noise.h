/* noise.h - the training schedule written out, apart from the library's. */
#ifndef TEST_NOISE_H
#define TEST_NOISE_H

#include "model/config.h"

/* Product over i <= t of 1 - beta_i, beta "scaled linear": the square of a straight line between the
 * square roots of beta_start and beta_end. */
double test_alphas_cumprod(const cn_schedule_config *c, int t);

#endif
