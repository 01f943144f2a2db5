/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an image. A few bytes of WebP may truly hold 16383 x 16383 pixels; those are passed
 * over, so that the fuzzer's memory limit speaks of mistakes only. */
#include "image/image.h"

#include <webp/decode.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    enum { MAX_PIXELS = 1 << 20 };
    int width = 0, height = 0;
    if (WebPGetInfo(data, n, &width, &height) && (int64_t)width * height > MAX_PIXELS) return 0;
    cn_ctx *ctx = cn_ctx_create(1);
    cn_image *image = NULL;
    if (ctx && cn_image_load_memory(ctx, data, n, &image) == CN_OK) cn_image_destroy(image);
    cn_ctx_destroy(ctx);
    return 0;
}
