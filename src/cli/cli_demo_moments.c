/* SPDX-License-Identifier: Apache-2.0 */
/* cli_demo_moments.c - how control came: the same scenes drawn while training went on. */
#include "cli/cli_demo.h"

#include <stdlib.h>
#include <string.h>

void demo_moments_destroy(demo_moments *m)
{
    for (int k = 0; k < DEMO_FOLLOWED; k++) {
        for (int i = 0; i < DEMO_MOMENTS; i++) cn_image_destroy(m->drawn[k][i]);
        cn_image_destroy(m->condition[k]);
        cn_image_destroy(m->without[k]);
        cn_image_destroy(m->original[k]);
    }
    free(m->steps);
    *m = (demo_moments){0};
}

cn_status demo_moments_add(demo *d, int64_t step)
{
    demo_moments *m = &d->moments;
    int64_t *steps = realloc(m->steps, (size_t)(m->n_steps + 1) * sizeof *steps);
    if (!steps) return CN_ENOMEM;
    m->steps = steps;
    m->steps[m->n_steps++] = step;
    return CN_OK;
}

/* A cell of a validation's sheet, whose columns are condition, with control, without, target. */
static cn_status cut(cn_ctx *ctx, const cn_image *sheet, int column, int row, cn_image **out)
{
    const int64_t px = DEMO_PX, width = cn_image_width(sheet);
    if (width < (column + 1) * px || cn_image_height(sheet) < (row + 1) * px) return CN_EFORMAT;
    const cn_status s = cn_image_create(ctx, px, px, out);
    if (s != CN_OK) return s;
    const uint8_t *from = cn_image_rgb((cn_image *)(uintptr_t)sheet);
    for (int64_t y = 0; y < px; y++)
        memcpy(cn_image_rgb(*out) + y * px * 3, from + ((row * px + y) * width + column * px) * 3,
               (size_t)px * 3);
    return CN_OK;
}

static cn_status load_moment(demo *d, int moment)
{
    demo_moments *m = &d->moments;
    char path[CN_PATH_BYTES + 64];
    cn_image *sheet = NULL;
    snprintf(path, sizeof path, "%s/validation/step_%lld/sheet.png", d->controlnet_dir,
             (long long)m->shown[moment]);
    cn_status s = cn_image_load(d->ctx, path, &sheet);
    for (int k = 0; k < DEMO_FOLLOWED && s == CN_OK; k++) {
        s = cut(d->ctx, sheet, 1, k, &m->drawn[k][moment]);
        if (moment > 0 || s != CN_OK) continue;
        s = cut(d->ctx, sheet, 0, k, &m->condition[k]);
        if (s == CN_OK) s = cut(d->ctx, sheet, 2, k, &m->without[k]);
        if (s == CN_OK) s = cut(d->ctx, sheet, 3, k, &m->original[k]);
    }
    cn_image_destroy(sheet);
    return s;
}

cn_status demo_moments_load(demo *d)
{
    demo_moments *m = &d->moments;
    const int last = m->n_steps - 1, n = m->n_steps < DEMO_MOMENTS ? m->n_steps : DEMO_MOMENTS;
    cn_status s = CN_OK;
    for (; m->n_shown < n && s == CN_OK; m->n_shown++) {
        m->shown[m->n_shown] = m->steps[n > 1 ? m->n_shown * last / (n - 1) : last];
        s = load_moment(d, m->n_shown);
    }
    return s;
}
