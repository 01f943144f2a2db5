/* SPDX-License-Identifier: Apache-2.0 */
/* sample_encoder.c - samples' pictures and captions through a base model's encoders, as training
 * would do it, into members of the shard (data/shard_encodings.h).
 *
 * One sample at a time on all threads: what it gets doesn't depend on its neighbours, on parts and
 * on interruptions. Both encoders stay loaded. With buckets the VAE's encoder is planned for each
 * of the last few sizes; only the one in use holds memory.
 */
#include "pipeline/samples_internal.h"

#include "data/encode.h"
#include "data/shard_encodings.h"
#include "device/device.h"
#include "diffuse/sampling.h"
#include "image/resize.h"
#include "io/npy.h"

#include <string.h>

enum { PLANS = 8 };

typedef struct sized_encoder {
    int64_t width, height; /* 0: free */
    cn_encoder e;
    int64_t used; /* when, counted in pictures */
} sized_encoder;

struct cn_sample_encoder {
    cn_base *base;
    cn_backend *be;
    cn_prompter *prompter;
    cn_params *vae, *text[CN_MAX_TEXT_ENCODERS];
    sized_encoder pictures[PLANS];
    int64_t encoded;
    size_t picture_bytes; /* of the largest size */
    cn_encoder texts;
    int64_t side; /* px of the square that pictures are fitted to; 0: their buckets' sizes */
    cn_encoder_hashes hashes;
    char text_ending[CN_SHARD_ENDING_BYTES];
};

/* --- opening ---------------------------------------------------------------------------------- */

static cn_status check_sides(cn_ctx *ctx, const cn_base *base, const cn_bucket_rules *buckets)
{
    const int64_t factor = cn_vae_factor(&base->vae);
    const int64_t side = buckets->enabled ? buckets->steps : buckets->resolution;
    if (!side)
        return cn_fail(ctx, CN_EINVAL,
                       "--encode takes --resolution, the size that training will have");
    if (side % factor)
        return cn_fail(ctx, CN_EINVAL, "--%s %lld: with --encode a multiple of %lld is expected",
                       buckets->enabled ? "bucket-reso-steps" : "resolution", (long long)side,
                       (long long)factor);
    return CN_OK;
}

static cn_status check_base(cn_ctx *ctx, const cn_base *base)
{
    if (base->unet.out_channels != base->vae.latent_channels)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: its UNet makes latents of %lld channels, the VAE of %lld", base->path,
                       (long long)base->unet.out_channels, (long long)base->vae.latent_channels);
    if (base->vae.image_channels != 3)
        return cn_fail(ctx, CN_EMISMATCH, "%s: its VAE takes pictures of %lld channels, not 3",
                       base->path, (long long)base->vae.image_channels);
    return cn_base_check_context(ctx, base);
}

/* The encoder of this size, made in place of the one that was unused for longest; the others let
 * their memory go. */
static cn_status encoder_for(cn_sample_encoder *e, cn_ctx *ctx, int64_t width, int64_t height,
                             cn_encoder **out)
{
    sized_encoder *found = NULL, *oldest = &e->pictures[0];
    for (int k = 0; k < PLANS; k++) {
        sized_encoder *p = &e->pictures[k];
        if (p->width == width && p->height == height) found = p;
        if (p->used < oldest->used) oldest = p;
    }
    if (!found) {
        cn_encoder_close(&oldest->e);
        *oldest = (sized_encoder){0};
    }
    for (int k = 0; k < PLANS; k++)
        if (&e->pictures[k] != found) cn_plan_drop(e->pictures[k].e.plan);
    if (!found) {
        const cn_status s =
            cn_encoder_vae(ctx, e->be, e->base, e->vae, 1, width, height, &oldest->e);
        if (s != CN_OK) {
            cn_encoder_close(&oldest->e);
            return s;
        }
        oldest->width = width;
        oldest->height = height;
    }
    sized_encoder *p = found ? found : oldest;
    p->used = ++e->encoded;
    *out = &p->e;
    return CN_OK;
}

/* The size with the most pixels; of buckets whose sizes follow from the pictures' the square. */
static cn_train_bucket largest_size(const cn_bucket_rules *r)
{
    cn_buckets all = {.n = 1, .list = {{.width = r->resolution, .height = r->resolution}}};
    if (r->enabled) {
        const int64_t square = r->resolution / r->steps * r->steps;
        all.list[0] = (cn_train_bucket){.width = square, .height = square};
    }
    if (r->enabled && !r->no_upscale) all.n = cn_bucket_sizes(r, all.list);
    return all.list[cn_buckets_largest(&all)];
}

static cn_status load(cn_ctx *ctx, cn_sample_encoder *e, const cn_train_bucket *largest)
{
    cn_encoder *pictures = NULL;
    CN_TRY(cn_encoder_params(ctx, e->base, CN_NET_VAE, &e->vae));
    CN_TRY(encoder_for(e, ctx, largest->width, largest->height, &pictures));
    e->picture_bytes = cn_encoder_bytes(pictures);
    CN_TRY(cn_base_load(ctx, e->base, e->be, e->vae));
    CN_TRY(cn_text_params_create(ctx, e->base, e->text));
    CN_TRY(cn_encoder_text(ctx, e->be, e->base, e->text, 1, &e->texts));
    return cn_text_params_load(ctx, e->base, e->be, e->text);
}

static cn_status open_encoder(cn_ctx *ctx, const cn_prepare_options *o,
                              const cn_bucket_rules *buckets, cn_sample_encoder *e)
{
    const cn_tag_rules as_they_are = {.separator = ","};
    CN_TRY(cn_base_open_with(ctx, o->encode, o->vae, &e->base));
    CN_TRY(check_sides(ctx, e->base, buckets));
    CN_TRY(check_base(ctx, e->base));
    CN_TRY(cn_prompter_open(ctx, e->base, NULL, &as_they_are, &e->prompter));
    CN_TRY(cn_backend_create(ctx, NULL, &e->be));
    CN_TRY(cn_encoder_hashes_of(ctx, e->base, &e->hashes));
    cn_shard_text_ending(&e->hashes, e->text_ending);
    e->side = buckets->enabled ? 0 : buckets->resolution;
    const cn_train_bucket largest = largest_size(buckets);
    return load(ctx, e, &largest);
}

cn_status cn_sample_encoder_open(cn_ctx *ctx, const cn_prepare_options *o,
                                 const cn_bucket_rules *buckets, cn_sample_encoder **out)
{
    *out = NULL;
    if (!o->encode) return CN_OK;
    cn_sample_encoder *e = cn_alloc0(ctx, sizeof *e);
    if (!e) return CN_ENOMEM;
    const cn_status s = open_encoder(ctx, o, buckets, e);
    if (s == CN_OK)
        *out = e;
    else
        cn_sample_encoder_close(e);
    return s;
}

void cn_sample_encoder_close(cn_sample_encoder *e)
{
    if (!e) return;
    for (int k = 0; k < PLANS; k++) cn_encoder_close(&e->pictures[k].e);
    cn_encoder_close(&e->texts);
    cn_params_destroy(e->vae);
    cn_text_params_destroy(e->text);
    if (e->be) e->be->destroy(e->be);
    cn_prompter_close(e->prompter);
    cn_base_close(e->base);
    cn_free(e);
}

void cn_sample_encoder_describe(const cn_sample_encoder *e, cn_str *out)
{
    char moments[CN_SHARD_ENDING_BYTES];
    cn_shard_moments_ending(&e->hashes, e->side, e->side, moments);
    if (!e->side)
        snprintf(moments, sizeof moments, "vae-SIZE-%016llx.npy",
                 (unsigned long long)e->hashes.vae);
    cn_str_addf(out, "; encoded to .%s and .%s, %s", moments, e->text_ending,
                cn_family_of(e->base)->name);
}

size_t cn_sample_encoder_bytes(const cn_sample_encoder *e)
{
    return cn_params_bytes(e->vae) + cn_text_params_bytes(e->text) + e->picture_bytes +
           cn_encoder_bytes(&e->texts);
}

/* --- a sample --------------------------------------------------------------------------------- */

/* The picture as it is read from the shard again, which JPEG changes. */
cn_status cn_sample_encoder_fit(cn_ctx *ctx, cn_sample *s)
{
    const cn_train_bucket *to = &s->size;
    const cn_crop whole = {0.5, 0.5, 1};
    cn_image *again = NULL;
    CN_TRY(cn_image_load_memory(ctx, s->made.tar.data + s->made.members[0].at,
                                s->made.members[0].bytes, &again));
    if (again->width == to->width && again->height == to->height) {
        s->fitted = again;
        return CN_OK;
    }
    const cn_status status =
        cn_image_resize_crop(ctx, again, to->width, to->height, whole, &s->fitted);
    cn_image_destroy(again);
    return status;
}

static cn_status add_array(cn_ctx *ctx, cn_shard_sample *to, const char *ending, cn_dtype type,
                           int ndim, const int64_t *shape, const void *values)
{
    cn_str file = {0};
    cn_status s = cn_npy_add(ctx, &file, type, ndim, shape, values);
    if (s == CN_OK) s = cn_shard_sample_add(ctx, to, ending, file.data, file.len);
    cn_str_free(&file);
    return s;
}

static cn_status add_moments(cn_sample_encoder *e, cn_ctx *ctx, cn_sample *s)
{
    const cn_train_bucket *size = &s->size;
    char ending[CN_SHARD_ENDING_BYTES];
    cn_encoder *p = NULL;
    CN_TRY(encoder_for(e, ctx, size->width, size->height, &p));
    float *x = cn_plan_data(p->plan, p->in);
    for (int64_t k = 0; k < size->width * size->height * 3; k++)
        x[k] = (float)s->fitted->rgb[k] / 127.5f - 1.0f;
    CN_TRY(cn_plan_run(p->plan));
    CN_TRY(cn_plan_expect_finite(p->plan, p->out));
    cn_shard_moments_ending(&e->hashes, size->width, size->height, ending);
    return add_array(ctx, &s->made, ending, CN_F32, 3, p->out->shape + 1,
                     cn_plan_data(p->plan, p->out));
}

static cn_status run_text(cn_sample_encoder *e, const int32_t *ids)
{
    cn_encoder_put_ids(&e->texts, 0, ids);
    CN_TRY(cn_plan_run(e->texts.plan));
    return cn_plan_expect_finite(e->texts.plan, e->texts.out);
}

static cn_status add_text(cn_sample_encoder *e, cn_ctx *ctx, cn_sample *s, const int32_t *ids)
{
    const cn_node *y = e->texts.out;
    const int64_t L = e->prompter->length, encoders = e->prompter->ids / L;
    const int64_t tokens[] = {encoders, L};
    CN_TRY(run_text(e, ids));
    CN_TRY(add_array(ctx, &s->made, e->text_ending, CN_F32, y->ndim - 1, y->shape + 1,
                     cn_plan_data(e->texts.plan, y)));
    return add_array(ctx, &s->made, CN_SHARD_TOKENS, CN_I32, encoders > 1 ? 2 : 1,
                     encoders > 1 ? tokens : tokens + 1, ids);
}

cn_status cn_sample_encoder_add(cn_sample_encoder *e, cn_ctx *ctx, cn_sample *s)
{
    int32_t *ids = cn_alloc_array(ctx, (size_t)e->prompter->ids, sizeof *ids);
    if (!ids) return CN_ENOMEM;
    cn_status status = cn_prompter_encode(ctx, e->prompter, s->caption, ids);
    if (status == CN_OK) status = add_moments(e, ctx, s);
    if (status == CN_OK) status = add_text(e, ctx, s, ids);
    cn_free(ids);
    return status;
}

cn_status cn_sample_encoder_write_empty(cn_sample_encoder *e, cn_ctx *ctx, const char *dir)
{
    char path[CN_PATH_BYTES];
    const cn_node *y = e->texts.out;
    cn_str file = {0};
    CN_TRY(cn_shard_empty_path(ctx, dir, &e->hashes, path));
    if (cn_file_exists(path)) return CN_OK;
    int32_t *ids = cn_alloc_array(ctx, (size_t)e->prompter->ids, sizeof *ids);
    if (!ids) return CN_ENOMEM;
    cn_status s = cn_prompter_encode(ctx, e->prompter, "", ids);
    if (s == CN_OK) s = run_text(e, ids);
    if (s == CN_OK)
        s = cn_npy_add(ctx, &file, CN_F32, y->ndim - 1, y->shape + 1,
                       cn_plan_data(e->texts.plan, y));
    if (s == CN_OK) s = cn_file_write(ctx, path, file.data, file.len);
    cn_str_free(&file);
    cn_free(ids);
    return s;
}
