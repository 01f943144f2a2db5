/* SPDX-License-Identifier: Apache-2.0 */
/* maps.c - see maps.h. */
#include "annotate/maps.h"

float *cn_feed_image(cn_ctx *ctx, const cn_image *in, const cn_feed *feed)
{
    const int64_t n = in->width * in->height;
    const float scale = feed->scale != 0 ? feed->scale : 1;
    float *x = cn_alloc_array(ctx, (size_t)n, 3 * sizeof *x);
    for (int64_t i = 0; x && i < n; i++)
        for (int c = 0; c < 3; c++)
            x[3 * i + c] =
                (float)in->rgb[3 * i + (feed->bgr ? 2 - c : c)] * scale - feed->subtract[c];
    return x;
}

cn_status cn_session_run_image(cn_session *s, const cn_image *in, const cn_feed *feed,
                               cn_network_values *out)
{
    float *x = cn_feed_image(cn_session_ctx(s), in, feed);
    if (!x) return CN_ENOMEM;
    cn_status status = cn_session_run(s, cn_session_network(s, 0), in->height, in->width, x, out);
    cn_free(x);
    return status;
}
