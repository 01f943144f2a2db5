/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an .npy array, and as DIODE's normals and depth. Each as the mask of the other
 * too. */
#include "annotate/labels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cn_ctx *ctx = cn_ctx_create(1);
    cn_npy *a = NULL;
    cn_image *image = NULL;
    if (cn_npy_load_memory(ctx, data, n, &a) == CN_OK) {
        if (cn_normals_colors(ctx, a, NULL, &image) == CN_OK) cn_image_destroy(image);
        if (cn_metric_depth_map(ctx, a, NULL, &image) == CN_OK) cn_image_destroy(image);
        if (cn_metric_depth_map(ctx, a, a, &image) == CN_OK) cn_image_destroy(image);
        if (cn_metric_normals(ctx, a, a, 1500, 6.25, 0.4, &image) == CN_OK) cn_image_destroy(image);
        cn_npy_free(a);
    }
    cn_ctx_destroy(ctx);
    return 0;
}
