/* SPDX-License-Identifier: Apache-2.0 */
/* params_init.c - how training starts: from scratch, or as the paper's copy of the locked encoder.
 *
 * Every parameter draws from a generator of its own, seeded by the seed and its name, so neither
 * order nor what else is trained changes its values.
 */
#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <string.h>

static void fill_uniform(cn_rng *r, float bound, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = bound * (2 * cn_rng_uniform(r) - 1);
}

static void draw(const cn_param *q, uint64_t seed, float *out)
{
    int64_t n = cn_param_elements(q);
    uint64_t h = cn_hash64(q->diffusers_name, strlen(q->diffusers_name));
    cn_rng r;
    /* the generator looks at the low half only */
    cn_rng_seed(&r, seed ^ h ^ (h >> 32));
    switch (q->init) {
    case CN_INIT_FAN_IN: fill_uniform(&r, 1 / sqrtf((float)CN_MAX(q->fan_in, 1)), out, n); break;
    case CN_INIT_NORMAL:
        cn_rng_normal(&r, out, n);
        for (int64_t i = 0; i < n; i++) out[i] *= 0.02f;
        break;
    case CN_INIT_GAUSS: {
        float deviation = q->ndim > 1 ? sqrtf(2 / (float)CN_MAX(q->fan_in, 1)) : 0;
        cn_rng_normal(&r, out, n);
        for (int64_t i = 0; i < n; i++) out[i] *= deviation;
        break;
    }
    case CN_INIT_ONE:
        for (int64_t i = 0; i < n; i++) out[i] = 1;
        break;
    case CN_INIT_ZERO: memset(out, 0, (size_t)n * sizeof *out); break;
    }
}

/* Room for p's largest parameter. */
static float *largest_buffer(cn_ctx *ctx, const cn_params *p)
{
    int64_t most = 1;
    for (int64_t i = 0; i < cn_params_count(p); i++)
        most = CN_MAX(most, cn_param_elements(cn_params_at(p, i)));
    return cn_alloc_array(ctx, (size_t)most, sizeof(float));
}

cn_status cn_params_init(cn_ctx *ctx, cn_backend *be, cn_params *p, uint64_t seed)
{
    float *plain = largest_buffer(ctx, p);
    if (!plain) return CN_ENOMEM;
    cn_status s = cn_params_allocate(be, p);
    for (int64_t i = 0; i < cn_params_count(p) && s == CN_OK; i++) {
        draw(cn_params_at(p, i), seed, plain);
        s = cn_param_set(be, ctx, cn_params_at(p, i), plain);
    }
    cn_free(plain);
    return s;
}

static bool ends_in(const char *name, const char *with)
{
    const size_t n = strlen(name), k = strlen(with);
    return n >= k && !strcmp(name + n - k, with);
}

/* Zero convolutions and hint network: what only a ControlNet has; a Union's own parts; the narrow
 * matrices of a Control-LoRA. */
static bool is_control_only(const cn_param *q)
{
    static const char *const begins[] = {"controlnet_", "control_add_embedding.", "task_embedding",
                                         "transformer_layes.", "spatial_ch_projs."};
    for (size_t i = 0; i < CN_COUNT(begins); i++)
        if (!strncmp(q->diffusers_name, begins[i], strlen(begins[i]))) return true;
    return ends_in(q->diffusers_name, ".down") || ends_in(q->diffusers_name, ".up");
}

/* Where a copy's values come from: q's under its name in the UNet into plain (room for all of
 * q). */
typedef cn_status (*copier)(void *user, const cn_param *q, float *plain);

static cn_status init_control(cn_ctx *ctx, cn_backend *be, cn_params *control, uint64_t seed,
                              copier copy, void *user)
{
    float *plain = largest_buffer(ctx, control);
    if (!plain) return CN_ENOMEM;
    cn_status s = cn_params_allocate(be, control);
    for (int64_t i = 0; i < cn_params_count(control) && s == CN_OK; i++) {
        cn_param *q = cn_params_at(control, i);
        if (is_control_only(q))
            draw(q, seed, plain);
        else
            s = copy(user, q, plain);
        if (s == CN_OK) s = cn_param_set(be, ctx, q, plain);
    }
    cn_free(plain);
    return s;
}

static cn_status fail_missing(cn_ctx *ctx, const cn_param *q)
{
    return cn_fail(ctx, CN_EMISMATCH, "the UNet has no values for %s, which a ControlNet copies",
                   q->diffusers_name);
}

static cn_status fail_shape(cn_ctx *ctx, const cn_param *q)
{
    return cn_fail(ctx, CN_EMISMATCH,
                   "%s has another shape in the UNet than in the ControlNet, which is to be its "
                   "copy; the widths of both must be equal",
                   q->diffusers_name);
}

typedef struct memory_user {
    cn_ctx *ctx;
    cn_backend *be;
    const cn_params *unet;
} memory_user;

static cn_status copy_from_memory(void *user, const cn_param *q, float *plain)
{
    const memory_user *u = user;
    const cn_param *from = cn_params_find(u->unet, q->ldm_name);
    if (!from || !from->loaded) return fail_missing(u->ctx, q);
    if (from->ndim != q->ndim || memcmp(from->shape, q->shape, (size_t)q->ndim * sizeof *q->shape))
        return fail_shape(u->ctx, q);
    return cn_param_get(u->be, u->ctx, from, plain);
}

cn_status cn_control_init_from_unet(cn_ctx *ctx, cn_backend *be, const cn_params *unet,
                                    cn_params *control, uint64_t seed)
{
    memory_user user = {ctx, be, unet};
    return init_control(ctx, be, control, seed, copy_from_memory, &user);
}

typedef struct file_user {
    cn_ctx *ctx;
    cn_source source;
} file_user;

static cn_status copy_from_file(void *user, const cn_param *q, float *plain)
{
    const file_user *u = user;
    const cn_place at = cn_source_find(&u->source, CN_NET_UNET, q);
    if (!at.tensor) return fail_missing(u->ctx, q);
    if (!cn_place_fits(&at, q)) return fail_shape(u->ctx, q);
    return cn_place_read(u->ctx, &u->source, &at, plain);
}

cn_status cn_control_init_from_base(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                                    cn_params *control, uint64_t seed)
{
    char path[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    file_user user = {.ctx = ctx};
    CN_TRY(cn_base_source(ctx, base, CN_NET_UNET, path, &opened, &user.source));
    cn_status s = init_control(ctx, be, control, seed, copy_from_file, &user);
    if (s != CN_OK) s = cn_fail_prefix(ctx, s, "%s", user.source.path);
    if (s == CN_OK)
        s = cn_params_set_source(control, user.source.path, user.source.prefix,
                                 user.source.layout == CN_LAYOUT_DIFFUSERS);
    cn_tensors_close(opened);
    return s;
}
