/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an instances file, every picture of it painted and every caption read. Pictures of
 * many pixels are passed over, so that the fuzzer's memory limit speaks of mistakes only. */
#include "data/coco.h"
#include "data/coco_mask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { SIDE = 256 };

static void paint_all(cn_ctx *ctx, const cn_coco *c)
{
    for (int64_t i = 0; i < cn_coco_count(c); i++) {
        cn_image *image = NULL;
        char *text = NULL;
        if (cn_coco_find(c, cn_coco_file_name(c, i)) < 0) __builtin_trap();
        if (cn_coco_size(c, i) <= SIDE * SIDE && cn_coco_colors(ctx, c, i, true, &image) == CN_OK)
            cn_image_destroy(image);
        for (int64_t k = 0; k < cn_coco_captions(c, i); k++)
            if (cn_coco_caption(ctx, c, i, k, &text) == CN_OK) cn_free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cn_ctx *ctx = cn_ctx_create(1);
    cn_coco *coco = NULL;
    cn_coco_mask mask;
    const char *text = (const char *)data;
    json_t *segmentation = json_loadb(text, n, 0, NULL);
    if (segmentation && cn_coco_mask_parse(ctx, segmentation, 20, 30, &mask) == CN_OK) {
        int32_t columns[20 * 30] = {0};
        cn_coco_mask_paint(&mask, 1, columns);
        cn_coco_mask_free(&mask);
    }
    json_decref(segmentation);
    if (cn_coco_open_memory(ctx, text, n, text, n, &coco) == CN_OK) {
        paint_all(ctx, coco);
        cn_coco_close(coco);
    }
    cn_ctx_destroy(ctx);
    return 0;
}
