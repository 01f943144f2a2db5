/* pipeline_report.c - controlnet.h's measure of agreement; reports themselves are train/report.c's. */
#include "annotate/agreement.h"
#include "io/image.h"
#include "train/condition.h"

cn_status cn_edge_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted, double *f1)
{
    const int64_t w = wanted->width, h = wanted->height, pixels = w * h;
    if (found->width != w || found->height != h)
        return cn_fail(
            ctx, CN_EINVAL, "edge pictures of %lld x %lld and %lld x %lld: one size is expected",
            (long long)found->width, (long long)found->height, (long long)w, (long long)h);
    uint8_t *masks = cn_alloc_array(ctx, (size_t)pixels, 2);
    if (!masks) return CN_ENOMEM;
    cn_condition_mask(found->rgb, pixels, masks);
    cn_condition_mask(wanted->rgb, pixels, masks + pixels);
    *f1 = cn_edge_f1(masks, masks + pixels, w, h, 1, NULL, NULL);
    cn_free(masks);
    return CN_OK;
}
