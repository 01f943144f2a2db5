/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_show.c - controlnet.h's cn_dataset_show: one pair of a data set, looked at. */
#include "data/dataset.h"

#include "io/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Both upright and as they are, from the top, black where one is lower. */
static cn_status save_beside(cn_ctx *ctx, const char *path, const cn_image *a, const cn_image *b)
{
    cn_image *both = NULL;
    const cn_image *const parts[] = {a, b};
    CN_TRY(cn_image_create(ctx, a->width + b->width, CN_MAX(a->height, b->height), &both));
    for (int k = 0; k < 2; k++)
        for (int64_t y = 0; y < parts[k]->height; y++)
            memcpy(both->rgb + 3 * (y * both->width + (k ? a->width : 0)),
                   parts[k]->rgb + 3 * y * parts[k]->width, (size_t)(3 * parts[k]->width));
    const cn_status s = cn_image_save_png(ctx, path, both, NULL);
    cn_image_destroy(both);
    return s;
}

static cn_status tell(cn_ctx *ctx, const char *where, const char *prompt, const cn_image *condition,
                      const cn_image *target, bool json, char **text)
{
    cn_str out = {0};
    if (json) {
        json_t *object = json_pack(
            "{s:s,s:s,s:I,s:I,s:I,s:I}", "where", where, "prompt", prompt, "width",
            (json_int_t)target->width, "height", (json_int_t)target->height, "condition_width",
            (json_int_t)condition->width, "condition_height", (json_int_t)condition->height);
        char *dumped = cn_json_text(object, 0);
        if (dumped) cn_str_addf(&out, "%s\n", dumped);
        free(dumped);
        json_decref(object);
        if (!dumped) return cn_fail(ctx, CN_EFORMAT, "%s: its name or caption isn't UTF-8", where);
    } else {
        cn_str_addf(&out, "%s\npicture %lld x %lld, condition %lld x %lld\n%s\n", where,
                    (long long)target->width, (long long)target->height,
                    (long long)condition->width, (long long)condition->height, prompt);
    }
    if (out.failed) return cn_fail(ctx, CN_ENOMEM, "no memory for a pair in words");
    *text = out.data;
    return CN_OK;
}

static cn_status show(cn_ctx *ctx, const cn_dataset *d, int64_t i, const char *png, bool json,
                      char **text)
{
    char where[CN_PATH_BYTES];
    cn_dataset_item item = {0};
    cn_image *condition = NULL, *target = NULL;
    if (i < 0 || i >= d->n)
        return cn_fail(ctx, CN_EINVAL, "pair %lld: 0 to %lld are there", (long long)i,
                       (long long)d->n - 1);
    CN_TRY(cn_dataset_where(ctx, d, i, where, sizeof where));
    cn_status s = cn_dataset_load(ctx, d, i, 0, 0, &condition, &target);
    if (s == CN_OK) s = cn_dataset_get(ctx, d, i, true, &item);
    if (s == CN_OK && png) s = save_beside(ctx, png, condition, target);
    if (s == CN_OK) s = tell(ctx, where, item.prompt, condition, target, json, text);
    cn_dataset_item_free(&item);
    cn_image_destroy(condition);
    cn_image_destroy(target);
    return s;
}

cn_status cn_dataset_show(cn_ctx *ctx, const cn_dataset_options *options, int64_t index,
                          const char *png, bool json, char **text)
{
    cn_dataset *d = NULL;
    cn_dataset_options o = *options;
    o.skip_bad = true;
    CN_TRY(cn_dataset_open(ctx, &o, &d));
    const cn_status s = show(ctx, d, index, png, json, text);
    cn_dataset_close(d);
    return s;
}
