/* SPDX-License-Identifier: Apache-2.0 */
/* reference_act.h - the activations in double. */
#ifndef TEST_REFERENCE_ACT_H
#define TEST_REFERENCE_ACT_H

#include "graph/graph.h"

#include <math.h>

static inline double reference_act(cn_act act, double x)
{
    switch (act) {
    case CN_ACT_SILU: return x / (1 + exp(-x));
    case CN_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case CN_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case CN_ACT_RELU: return x > 0 ? x : 0;
    case CN_ACT_RELU6: return fmin(fmax(x, 0), 6);
    case CN_ACT_LEAKY_RELU: return x > 0 ? x : 0.2 * x; /* the slope of the tests */
    case CN_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case CN_ACT_TANH: return tanh(x);
    case CN_ACT_NONE: break;
    }
    return x;
}

#endif
