/* SPDX-License-Identifier: Apache-2.0 */
/* annotate.c - a picture to a ControlNet's condition: annotate canny IN.jpg OUT.png [low=50
 * high=100 ...]
 *
 *   cc annotate.c $(pkg-config --cflags --libs controlnet) -o annotate
 */
#include <controlnet.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: annotate KIND IN OUT.png [NAME=VALUE ...]\n\nkinds:\n");
        const char *title;
        for (int i = 0; cn_annotate_kind(i, &title); i++)
            fprintf(stderr, "  %-12s %s\n", cn_annotate_kind(i, NULL), title);
        return 2;
    }
    cn_ctx *ctx = cn_ctx_create(0);
    if (!ctx) return 1;

    /* What is left of argv ends with NULL, as the list of settings does. */
    cn_annotate_options options = {.settings = (const char *const *)argv + 4};
    cn_image *picture = NULL, *condition = NULL;
    cn_status s = cn_image_load(ctx, argv[2], &picture);
    if (s == CN_OK) s = cn_annotate_image(ctx, argv[1], &options, picture, &condition);
    if (s == CN_OK) s = cn_image_save_png(ctx, argv[3], condition, NULL);
    if (s != CN_OK) fprintf(stderr, "annotate: %s\n", cn_error(ctx));

    cn_image_destroy(picture);
    cn_image_destroy(condition);
    cn_ctx_destroy(ctx);
    return s == CN_OK ? 0 : 1;
}
