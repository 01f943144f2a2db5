/* SPDX-License-Identifier: Apache-2.0 */
/* device_layers.h - small layers whose products have rests of tiles in every direction: results and
 * gradients as a device computes them. */
#ifndef UNIT_DEVICE_LAYERS_H
#define UNIT_DEVICE_LAYERS_H

#include "graph/backend.h"

/* A layer from C to O channels; linear where kernel is 0, H rows then. */
typedef struct device_layer {
    int64_t N, H, W, C, O;
    int kernel, stride, pad;
    bool more; /* an activation and a residual behind it */
} device_layer;

enum { DEVICE_LAYERS = 8 };
extern const device_layer device_layers[DEVICE_LAYERS];

typedef struct device_values {
    float *data[3]; /* the result, gradients of x and of the weight */
    int64_t n[3];
} device_values;

/* Runs it `runs` times on b and keeps the last one's values. */
void device_layer_run(cn_backend *b, const device_layer *l, int runs, device_values *out);
void device_values_free(device_values *v);

#endif
