/* SPDX-License-Identifier: Apache-2.0 */
/* latents.c - see latents.h. */
#include "pretrain/latents.h"

#include "base/sys.h"
#include "base/dtype.h"
#include "scene/scene.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 16, VAE_MAX_BYTES = 1 << 28 };

struct cn_latents {
    cn_pretrain_run *r;
    cn_graph *g;
    cn_plan *plan;
    cn_node *image, *moments;
    uint8_t *rgb;
    float *pixels, *batch;
    uint16_t *values;        /* [scenes, size], F16 */
    int64_t scenes, size, n; /* n: how many are there */
    char path[4200];
};

static cn_status name_file(cn_latents *l)
{
    char path[4200];
    char *bytes = NULL;
    size_t n = 0;
    cn_pretrain_run *r = l->r;
    CN_TRY(cn_format(r->ctx, path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors",
                     r->o->output_dir));
    CN_TRY(cn_file_read(r->ctx, path, VAE_MAX_BYTES, &bytes, &n));
    const uint64_t key[] = {cn_hash64(bytes, n), r->o->seed, (uint64_t)r->o->size_px};
    cn_free(bytes);
    return cn_format(r->ctx, l->path, sizeof l->path, "%s/latents-%016llx.f16", r->state_dir,
                     (unsigned long long)cn_hash64(key, sizeof key));
}

/* What an earlier run left; a record that was cut short is encoded again. */
static cn_status read_file(cn_latents *l)
{
    FILE *f = NULL;
    if (!cn_file_exists(l->path)) return CN_OK;
    CN_TRY(cn_file_open_stream(l->r->ctx, l->path, &f));
    const size_t one = (size_t)l->size * sizeof *l->values;
    l->n = (int64_t)fread(l->values, one, (size_t)l->scenes, f);
    const bool failed = ferror(f) != 0;
    fclose(f);
    l->n -= l->n % BATCH; /* batches are encoded whole, so that the values don't depend on stops */
    return failed ? cn_fail(l->r->ctx, CN_EIO, "%s can't be read", l->path) : CN_OK;
}

/* Puts scenes first .. n behind those in the file. */
static cn_status write_file(cn_latents *l, int64_t first, int64_t n)
{
    const size_t one = (size_t)l->size * sizeof *l->values;
    const int fd = cn_sys_open(l->path, O_RDWR | O_CREAT, 0666);
    FILE *f = fd < 0 ? NULL : cn_sys_stream(fd, "r+b");
    if (fd >= 0 && !f) close(fd);
    bool ok =
        f && fseeko(f, (off_t)((size_t)first * one), SEEK_SET) == 0 &&
        fwrite(l->values + first * l->size, one, (size_t)(n - first), f) == (size_t)(n - first);
    if (f) ok = fclose(f) == 0 && ok;
    return ok ? CN_OK : cn_fail(l->r->ctx, CN_EIO, "%s can't be written", l->path);
}

static cn_status build(cn_latents *l)
{
    cn_pretrain_run *r = l->r;
    const int64_t P = r->o->size_px, C = r->base->vae.latent_channels;
    CN_TRY(cn_graph_create(r->ctx, &l->g));
    cn_params_set_trainable(r->vae, false);
    cn_graph_use(l->g, r->vae);
    l->image = cn_input4(l->g, "image", BATCH, P, P, 3);
    l->moments = cn_vae_encode_build(l->g, &r->base->vae, l->image);
    cn_vae_decode_build(l->g, &r->base->vae, cn_slice(l->g, l->moments, 0, C)); /* declares */
    CN_TRY(cn_plan_create(r->ctx, l->g, r->be, &l->moments, 1, false, &l->plan));
    CN_TRY(cn_pretrain_load_vae(r));
    l->size = cn_node_elements(l->moments) / BATCH / 2;
    const size_t pixels = (size_t)cn_node_elements(l->image);
    const size_t room = (size_t)(l->scenes + BATCH) * (size_t)l->size;
    l->rgb = cn_alloc(r->ctx, pixels);
    l->pixels = cn_alloc_array(r->ctx, pixels, sizeof *l->pixels);
    l->batch = cn_alloc_array(r->ctx, (size_t)(BATCH * l->size), sizeof *l->batch);
    l->values = cn_alloc_array(r->ctx, room, sizeof *l->values);
    return l->rgb && l->pixels && l->batch && l->values ? CN_OK : CN_ENOMEM;
}

cn_status cn_latents_open(cn_pretrain_run *r, int64_t scenes, cn_latents **out)
{
    cn_latents *l = cn_alloc0(r->ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    l->r = r;
    l->scenes = (scenes + BATCH - 1) / BATCH * BATCH;
    cn_status s = cn_pretrain_read_vae_config(r);
    if (s == CN_OK) s = build(l);
    if (s == CN_OK) s = name_file(l);
    if (s == CN_OK) s = read_file(l);
    if (s == CN_OK)
        *out = l;
    else
        cn_latents_close(l);
    return s;
}

void cn_latents_close(cn_latents *l)
{
    if (!l) return;
    cn_plan_destroy(l->plan);
    cn_graph_destroy(l->g);
    cn_free(l->rgb);
    cn_free(l->pixels);
    cn_free(l->batch);
    cn_free(l->values);
    cn_free(l);
}

/* Scenes l->n .. l->n + BATCH. */
static cn_status encode(cn_latents *l)
{
    cn_pretrain_run *r = l->r;
    const int64_t C = r->base->vae.latent_channels, pixels = cn_node_elements(l->image);
    cn_scene scenes[BATCH];
    for (int64_t i = 0; i < BATCH; i++)
        cn_scene_generate(r->o->seed, (uint64_t)(l->n + i), &scenes[i]);
    cn_scene_maps maps = {.rgb = l->rgb};
    CN_TRY(cn_scene_render_batch(r->ctx, scenes, BATCH, r->o->size_px, &maps));
    for (int64_t i = 0; i < pixels; i++) l->pixels[i] = (float)l->rgb[i] / 127.5f - 1.0f;
    CN_TRY(cn_plan_set(l->plan, l->image, l->pixels));
    CN_TRY(cn_plan_run(l->plan));
    const float *q = cn_plan_data(l->plan, l->moments);
    for (int64_t i = 0; i < BATCH * l->size; i++)
        l->batch[i] = q[i / C * 2 * C + i % C] * r->base->vae.scaling_factor;
    cn_from_f32(CN_F16, l->batch, l->values + l->n * l->size, (size_t)(BATCH * l->size));
    l->n += BATCH;
    return CN_OK;
}

cn_status cn_latents_reach(cn_latents *l, int64_t n)
{
    const int64_t first = l->n, want = CN_MIN(n, l->scenes);
    cn_status s = CN_OK;
    while (s == CN_OK && l->n < want) {
        s = encode(l);
        if (want - first > 64 * BATCH)
            cn_pretrain_progress(l->r, "encode", CN_MIN(l->n, want), want, 0);
    }
    if (l->n > first) {
        const cn_status written = write_file(l, first, l->n);
        if (s == CN_OK) s = written;
    }
    return s;
}

int64_t cn_latents_size(const cn_latents *l)
{
    return l->size;
}

void cn_latents_get(const cn_latents *l, int64_t scene, float *out)
{
    cn_to_f32(CN_F16, l->values + scene * l->size, out, (size_t)l->size);
}
