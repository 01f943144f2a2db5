/* condition.c - from a few words to the annotator of a data set. */
#include "train/condition.h"

#include <string.h>

/* "canny low=50 high=100" */
static cn_status parse(cn_ctx *ctx, const char *text, cn_annotate_args *args)
{
    cn_annotate_args a;
    CN_TRY(cn_annotate_read(ctx, text, &a));
    if (strcmp(a.kind->name, "none") == 0) return CN_OK;
    if (strcmp(a.kind->name, "canny") != 0)
        return cn_fail(ctx, CN_EINVAL,
                       "drawings are compared with their conditions by edges; canny or none is "
                       "possible, not %s",
                       a.kind->name);
    *args = a;
    return CN_OK;
}

cn_status cn_condition_text(cn_ctx *ctx, const char *dir, char out[256])
{
    static const char key[] = "condition ";
    char path[4096], *text = NULL;
    size_t n = 0;
    out[0] = 0;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/scenes.txt", dir));
    if (!cn_file_exists(path)) return CN_OK;
    CN_TRY(cn_file_read(ctx, path, 4096, &text, &n));
    const char *at = strstr(text, key);
    if (at)
        snprintf(out, 256, "%.*s", (int)strcspn(at + sizeof key - 1, "\n"), at + sizeof key - 1);
    cn_free(text);
    return CN_OK;
}

cn_status cn_condition_find(cn_ctx *ctx, const char *text, const char *dir, bool black_and_white,
                            cn_annotate_args *args)
{
    char scenes[256];
    *args = (cn_annotate_args){0};
    if (text) return parse(ctx, text, args);
    CN_TRY(cn_condition_text(ctx, dir, scenes));
    if (strncmp(scenes, "canny", 5) == 0) return parse(ctx, scenes, args);
    if (scenes[0] && strcmp(scenes, "edges") != 0) return CN_OK;
    return black_and_white ? parse(ctx, "canny", args) : CN_OK;
}

bool cn_condition_black_and_white(const uint8_t *rgb, int64_t pixels)
{
    bool black = false, white = false;
    for (int64_t i = 0; i < 3 * pixels; i++) {
        if (rgb[i] >= 16 && rgb[i] < 240) return false;
        black |= rgb[i] < 16;
        white |= rgb[i] >= 240;
    }
    for (int64_t i = 0; i < pixels; i++) /* no colours */
        if ((rgb[3 * i] < 16) != (rgb[3 * i + 1] < 16) ||
            (rgb[3 * i] < 16) != (rgb[3 * i + 2] < 16))
            return false;
    return black && white;
}

void cn_condition_mask(const uint8_t *rgb, int64_t pixels, uint8_t *out)
{
    for (int64_t i = 0; i < pixels; i++)
        out[i] = CN_MAX(rgb[3 * i], CN_MAX(rgb[3 * i + 1], rgb[3 * i + 2])) > 127 ? 255 : 0;
}
