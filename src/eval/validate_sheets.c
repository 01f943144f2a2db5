/* SPDX-License-Identifier: Apache-2.0 */
/* validate_sheets.c - a validation's drawings on disk: each by itself, and in rows beside what they
 * were drawn from. */
#include "eval/validate_internal.h"

#include <string.h>

/* Pictures in rows and columns: where each column's first is, the others behind it. */
typedef struct sheet {
    int64_t count; /* rows */
    const uint8_t *columns[4];
    int n_columns;
} sheet;

static void place(cn_image *image, const cn_validator *v, int64_t row, int64_t column,
                  const uint8_t *rgb)
{
    for (int64_t y = 0; y < v->o.height; y++)
        memcpy(image->rgb + ((row * v->o.height + y) * image->width + column * v->o.width) * 3,
               rgb + y * v->o.width * 3, (size_t)v->o.width * 3);
}

/* Each row for TensorBoard. */
static cn_status report_rows(cn_validator *v, int64_t step, const char *name, const cn_image *image)
{
    char tag[32];
    for (int64_t i = 0; i < image->height / v->o.height; i++) {
        const cn_image row = {image->width, v->o.height,
                              image->rgb + 3 * image->width * v->o.height * i};
        snprintf(tag, sizeof tag, "%s/%lld", name, (long long)i);
        CN_TRY(cn_metrics_image(v->o.metrics, tag, step, &row));
    }
    return CN_OK;
}

static cn_status save_sheet(cn_validator *v, int64_t step, const char *path, const char *tag,
                            const sheet *s)
{
    const int64_t rows = CN_MIN(s->count, CN_IMAGE_MAX_SIDE / v->o.height);
    const int64_t bytes = v->o.width * v->o.height * 3;
    cn_image *image = NULL;
    CN_TRY(cn_image_create(v->ctx, v->o.width * s->n_columns, v->o.height * rows, &image));
    for (int64_t i = 0; i < rows; i++)
        for (int k = 0; k < s->n_columns; k++) place(image, v, i, k, s->columns[k] + i * bytes);
    cn_status status = cn_image_save_png(v->ctx, path, image, NULL);
    if (status == CN_OK) status = report_rows(v, step, tag, image);
    cn_image_destroy(image);
    return status;
}

cn_status cn_validator_path(const cn_validator *v, const char *dir, int64_t drawing,
                            char out[CN_PATH_BYTES])
{
    const bool own = drawing >= v->o.n_held;
    return cn_format(v->ctx, out, CN_PATH_BYTES, "%s/%s%lld.png", dir, own ? "given_" : "",
                     (long long)(own ? drawing - v->o.n_held : drawing));
}

cn_status cn_validator_save(cn_validator *v, const char *dir, int64_t step)
{
    const int64_t bytes = v->o.width * v->o.height * 3, held = v->o.n_held * bytes;
    const sheet held_out = {v->o.n_held, {v->condition, v->with, v->without, v->target}, 4};
    const sheet own = {
        v->o.n_items - v->o.n_held, {v->condition + held, v->with + held, v->without + held}, 3};
    char path[CN_PATH_BYTES];
    CN_TRY(cn_dir_make(v->ctx, dir));
    for (int64_t i = 0; i < v->o.n_items; i++) {
        const cn_image drawn = {v->o.width, v->o.height, v->with + i * bytes};
        CN_TRY(cn_validator_path(v, dir, i, path));
        CN_TRY(cn_image_save_png(v->ctx, path, &drawn, NULL));
    }
    CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/sheet.png", dir));
    CN_TRY(save_sheet(v, step, path, "validation", &held_out));
    if (!own.count) return CN_OK;
    CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/given.png", dir));
    return save_sheet(v, step, path, "given", &own);
}
