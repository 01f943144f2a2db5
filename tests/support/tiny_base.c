/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_base.c - random weights in the smallest shapes that have every part of Stable Diffusion. */
#include "tiny_base.h"

#include "cpu/cpu.h"
#include "graph/plan.h"
#include "image/image.h"
#include "model/text/bpe.h"
#include "model/checkpoint/config_io.h"
#include "model/checkpoint/weights.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const texts[] = {"a red cube on green ground under a blue sky",
                                    "a shiny blue sphere", "two cones", "a green cube"};

static void configure(cn_base *b, int64_t width)
{
    memset(b, 0, sizeof *b);
    b->unet = (cn_unet_config){.in_channels = 4,
                               .out_channels = 4,
                               .levels = 2,
                               .channels = {width, 2 * width},
                               .attention = {true, false},
                               .heads = {2, 2},
                               .transformer_layers = {1, 1},
                               .layers_per_block = 1,
                               .context_dim = 16,
                               .norm_groups = 4,
                               .sample_size = TINY_PX / 2};
    b->vae = (cn_vae_config){.image_channels = 3,
                             .latent_channels = 4,
                             .levels = 2,
                             .channels = {8, 8},
                             .layers_per_block = 1,
                             .norm_groups = 4,
                             .scaling_factor = 0.5f};
    b->text[0] = (cn_clip_config){.vocabulary = CN_BPE_MIN_VOCAB + 8,
                                  .hidden = 16,
                                  .intermediate = 32,
                                  .max_positions = 12,
                                  .layers = 1,
                                  .heads = 2,
                                  .act = CN_ACT_QUICK_GELU,
                                  .layer_norm_eps = 1e-5f};
    cn_schedule_config_default(&b->schedule);
}

/* SDXL's parts: a second encoder, an added embedding, blocks of several transformer layers; heads
 * and groups as single files are taken to have them. */
static void configure_sdxl(cn_base *b)
{
    configure(b, 8);
    b->unet = (cn_unet_config){.in_channels = 4,
                               .out_channels = 4,
                               .levels = 3,
                               .channels = {32, 64, 32},
                               .attention = {false, true, true},
                               .heads = {1, 1, 1},
                               .transformer_layers = {1, 1, 2},
                               .layers_per_block = 1,
                               .context_dim = 32,
                               .linear_projection = true,
                               .norm_groups = 32,
                               .sample_size = TINY_PX / 2,
                               .added_dim = TINY_POOLED + 6 * 4,
                               .added_number_dim = 4};
    b->vae.channels[0] = b->vae.channels[1] = b->vae.norm_groups = 32;
    b->vae.scaling_factor = 0.13025f;
    b->text[0].layers = 2;
    b->text[0].heads = 4;
    b->text[1] = b->text[0];
    b->text[1].act = CN_ACT_GELU;
    b->text[1].open_clip = true;
    b->text[1].projection = TINY_POOLED;
    b->zeros_for_no_negative = true;
}

static void configure_refiner(cn_base *b)
{
    configure_sdxl(b);
    b->text[0] = b->text[1];
    b->text[1] = (cn_clip_config){0};
    b->unet.context_dim = b->text[0].hidden;
    b->unet.added_dim = TINY_POOLED + 5 * 4;
    b->zeros_for_no_negative = false;
}

static cn_status write_base(cn_ctx *ctx, const cn_base *base, const char *dir)
{
    char tokenizer[4096];
    cn_backend *be = NULL;
    cn_params *p[CN_MAX_FAMILY_NETS] = {0};
    const cn_family *f = cn_family_of(base);
    CN_TRY(cn_format(ctx, tokenizer, sizeof tokenizer, "%s-tokenizer", dir));
    CN_TRY(cn_bpe_train(ctx, texts, CN_COUNT(texts), base->text[0].vocabulary,
                        base->text[0].max_positions, tokenizer));
    cn_status s = cn_backend_cpu_create(ctx, &be);
    for (int i = 0; i < f->n_nets && s == CN_OK; i++) {
        const cn_net net = f->nets[i].net;
        s = cn_net_declare(ctx, net, cn_base_config_of(base, net), &p[i]);
        if (s == CN_OK) s = cn_params_init(ctx, be, p[i], 7 + (uint64_t)i);
    }
    if (s == CN_OK)
        s = cn_base_save_folder(
            ctx, be, base, (const cn_params *const *)p, f->n_nets,
            &(cn_base_target){.path = dir, .dtype = CN_F32, .tokenizer_dir = tokenizer});
    for (int i = 0; i < f->n_nets; i++) cn_params_destroy(p[i]);
    if (be) be->destroy(be);
    return s;
}

cn_status tiny_base_write(cn_ctx *ctx, const char *dir, int64_t width)
{
    static cn_base base;
    configure(&base, width);
    return write_base(ctx, &base, dir);
}

cn_status tiny_sdxl_write(cn_ctx *ctx, const char *dir)
{
    static cn_base base;
    configure_sdxl(&base);
    return write_base(ctx, &base, dir);
}

cn_status tiny_eight_write(cn_ctx *ctx, const char *dir, bool sdxl)
{
    static cn_base base;
    if (sdxl)
        configure_sdxl(&base);
    else
        configure(&base, 8);
    base.vae.levels = 4;
    for (int i = 1; i < base.vae.levels; i++) base.vae.channels[i] = base.vae.channels[0];
    return write_base(ctx, &base, dir);
}

cn_status tiny_refiner_write(cn_ctx *ctx, const char *dir)
{
    static cn_base base;
    configure_refiner(&base);
    return write_base(ctx, &base, dir);
}

cn_status tiny_scenes_write(cn_ctx *ctx, const char *dir, int64_t n)
{
    return cn_dataset_scenes(
        ctx,
        &(cn_scenes_options){
            .output_dir = dir, .count = n, .seed = 3, .size_px = TINY_PX, .condition = "canny"});
}

static cn_status write_pair(cn_ctx *ctx, const char *dir, int64_t i, cn_image *picture)
{
    char path[512];
    cn_rng r;
    cn_rng_seed(&r, (uint64_t)i);
    for (int64_t k = 0; k < picture->width * picture->height * 3; k++)
        picture->rgb[k] = (uint8_t)cn_rng_below(&r, 256);
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/target/%lld.png", dir, (long long)i));
    CN_TRY(cn_image_save_png(ctx, path, picture, NULL));
    for (int64_t k = 0; k < picture->width * picture->height; k++)
        memset(picture->rgb + 3 * k, picture->rgb[3 * k], 3);
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/source/%lld.png", dir, (long long)i));
    return cn_image_save_png(ctx, path, picture, NULL);
}

cn_status tiny_mixed_write(cn_ctx *ctx, const char *dir, int64_t n)
{
    static const int64_t sizes[][2] = {{16, 16}, {30, 12}, {9, 30}};
    char path[512];
    cn_str lines = {0};
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/source", dir));
    CN_TRY(cn_dir_make(ctx, path));
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/target", dir));
    CN_TRY(cn_dir_make(ctx, path));
    for (int64_t i = 0; i < n; i++) {
        cn_image *picture = NULL;
        CN_TRY(cn_image_create(ctx, sizes[i % 3][0], sizes[i % 3][1], &picture));
        const cn_status s = write_pair(ctx, dir, i, picture);
        cn_image_destroy(picture);
        CN_TRY(s);
        cn_str_addf(&lines,
                    "{\"source\": \"source/%lld.png\", \"target\": \"target/%lld.png\", "
                    "\"prompt\": \"picture %lld\"}\n",
                    (long long)i, (long long)i, (long long)(i % 5));
    }
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/prompt.json", dir));
    const cn_status s = cn_file_write(ctx, path, lines.data, lines.len);
    cn_str_free(&lines);
    return s;
}

bool tiny_dir_make(char path[64])
{
    snprintf(path, 64, "/tmp/controlnet-test-XXXXXX");
    return mkdtemp(path) != NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void tiny_dir_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
