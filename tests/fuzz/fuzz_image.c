/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an image. A few bytes may truly hold very many pixels; those are passed over, so
 * that the fuzzer's memory limit speaks of mistakes only. */
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    enum { MAX_PIXELS = 1 << 20 };
    int64_t width = 0, height = 0;
    cn_ctx *ctx = cn_ctx_create(1);
    cn_image *image = NULL;
    const bool large = ctx && cn_image_size_memory(ctx, data, n, &width, &height) == CN_OK &&
                       width * height > MAX_PIXELS;
    if (ctx && !large && cn_image_load_memory(ctx, data, n, &image) == CN_OK)
        cn_image_destroy(image);
    cn_ctx_destroy(ctx);
    return 0;
}
