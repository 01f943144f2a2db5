/* noise.c - see noise.h. */
#include "noise.h"

#include <math.h>

double test_alphas_cumprod(const cn_schedule_config *c, int t)
{
    double first = sqrt(c->beta_start), last = sqrt(c->beta_end), product = 1;
    for (int i = 0; i <= t; i++) {
        double b = first + (last - first) * i / (c->train_timesteps - 1);
        product *= 1 - b * b;
    }
    return product;
}
