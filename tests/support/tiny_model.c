/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_model.c - see tiny_model.h. */
#include "tiny_model.h"
#include "seeded_file.h"

#include "io/json.h"
#include "io/tensors.h"

#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLIP_BYTES = 256, CLIP_TOKENS = 49408, CLIP_MERGES = CLIP_TOKENS - 2 * CLIP_BYTES - 2 };

/* --- weights ---------------------------------------------------------------------------------- */

/* Another number of channels into the network's first convolution. */
static void set_in_channels(json_t *manifest, int64_t n)
{
    size_t i;
    json_t *entry;
    json_object_set_new(json_object_get(manifest, "config"), "in_channels", json_integer(n));
    json_array_foreach(json_object_get(manifest, "tensors"), i, entry)
    {
        if (strcmp(cn_json_str(entry, "name", ""), "conv_in.weight") == 0)
            json_array_set_new(json_object_get(entry, "shape"), 1, json_integer(n));
    }
}

/* An embedding of the guidance scale with n values, as distilled models have it. */
static void set_guidance_dim(json_t *manifest, int64_t n)
{
    const json_t *widths =
        json_object_get(json_object_get(manifest, "config"), "block_out_channels");
    json_object_set_new(json_object_get(manifest, "config"), "time_cond_proj_dim", json_integer(n));
    json_array_append_new(
        json_object_get(manifest, "tensors"),
        json_pack("{s:s, s:s, s:[I, I], s:f, s:f}", "name", "time_embedding.cond_proj.weight",
                  "key", "unet.time_embedding.cond_proj.weight", "shape",
                  json_integer_value(json_array_get(widths, 0)), (json_int_t)n, "offset", 0.0,
                  "scale", (double)(float)sqrt(3.0 / (double)n)));
}

/* unet: keys of its configuration that differ from the manifest's; NULL: none. */
static cn_status write_network(cn_ctx *ctx, const char *core, const char *network, const char *salt,
                               const json_t *unet, const char *dir, const char *file)
{
    char path[4096];
    json_t *manifest = NULL;
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s.manifest.json", core, network));
    CN_TRY(cn_json_load_file(ctx, path, &manifest));
    const int64_t in_channels = unet ? cn_json_int(unet, "in_channels", 0) : 0;
    const int64_t guidance_dim = unet ? cn_json_int(unet, "time_cond_proj_dim", 0) : 0;
    if (in_channels) set_in_channels(manifest, in_channels);
    if (guidance_dim) set_guidance_dim(manifest, guidance_dim);
    cn_status s = cn_format(ctx, path, sizeof path, "%s/%s", dir, file);
    if (s == CN_OK) s = seeded_file_write(ctx, manifest, salt, CN_F16, path);
    if (s == CN_OK) s = cn_format(ctx, path, sizeof path, "%s/config.json", dir);
    if (s == CN_OK) s = cn_json_save_file(ctx, path, json_object_get(manifest, "config"));
    json_decref(manifest);
    return s;
}

/* --- tokenizer -------------------------------------------------------------------------------- */

/* Byte tokens in CLIP's order: printable ones as themselves, then the rest as U+0100 onwards. */
static void byte_tokens(char out[CLIP_BYTES][8])
{
    int n = 0, others = 0;
    int order[CLIP_BYTES];
    for (int pass = 0; pass < 2; pass++)
        for (int b = 0; b < CLIP_BYTES; b++) {
            bool shown = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            if (shown == (pass == 0)) order[n++] = shown ? b : 256 + others++;
        }
    for (int i = 0; i < CLIP_BYTES; i++) {
        int c = order[i];
        if (c < 128)
            snprintf(out[i], 8, "%c", c);
        else
            snprintf(out[i], 8, "%c%c", (char)(0xc0 | c >> 6), (char)(0x80 | (c & 63)));
    }
}

static cn_status save_text(cn_ctx *ctx, const char *dir, const char *name, const char *text)
{
    char path[4096];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, name));
    return cn_file_write(ctx, path, text, strlen(text));
}

static void add_merges(json_t *vocab, const json_t *merges, cn_str *lines)
{
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *entry = json_array_get(merges, i);
        const char *pair = json_string_value(json_array_get(entry, 1)), *gap = strchr(pair, ' ');
        char token[128];
        cn_str_addf(lines, "%s\n", pair);
        snprintf(token, sizeof token, "%.*s%s", (int)(gap - pair), pair, gap + 1);
        int64_t rank = json_integer_value(json_array_get(entry, 0));
        char filler_name[32];
        snprintf(filler_name, sizeof filler_name, "filler %d", (int)rank);
        json_object_del(vocab, filler_name);
        json_object_set_new(vocab, token, json_integer(2 * CLIP_BYTES + rank));
    }
}

static cn_status write_tokenizer(cn_ctx *ctx, const char *merges_json, const char *dir)
{
    char bytes[CLIP_BYTES][8], name[32], path[4096];
    json_t *merges = NULL, *vocab = json_object();
    cn_str lines = {0};
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(cn_json_load_file(ctx, merges_json, &merges));
    byte_tokens(bytes);
    for (int i = 0; i < CLIP_BYTES; i++) {
        snprintf(name, sizeof name, "%s</w>", bytes[i]);
        json_object_set_new(vocab, bytes[i], json_integer(i));
        json_object_set_new(vocab, name, json_integer(CLIP_BYTES + i));
    }
    for (int i = 0; i < CLIP_MERGES; i++) {
        snprintf(name, sizeof name, "filler %d", i);
        json_object_set_new(vocab, name, json_integer(2 * CLIP_BYTES + i));
    }
    json_object_set_new(vocab, "<|startoftext|>", json_integer(CLIP_TOKENS - 2));
    json_object_set_new(vocab, "<|endoftext|>", json_integer(CLIP_TOKENS - 1));
    cn_str_adds(&lines, "#version: 0.2\n");
    add_merges(vocab, merges, &lines);
    cn_status s = cn_format(ctx, path, sizeof path, "%s/vocab.json", dir);
    if (s == CN_OK) s = cn_json_save_file(ctx, path, vocab);
    if (s == CN_OK) s = save_text(ctx, dir, "merges.txt", lines.data);
    json_decref(merges);
    json_decref(vocab);
    cn_str_free(&lines);
    return s;
}

/* --- all -------------------------------------------------------------------------------------- */

static const char scheduler[] =
    "{\"_class_name\": \"DDIMScheduler\", \"beta_end\": 0.012, \"beta_schedule\": "
    "\"scaled_linear\", \"beta_start\": 0.00085, \"clip_sample\": false, \"num_train_timesteps\": "
    "1000, \"prediction_type\": \"epsilon\", \"set_alpha_to_one\": false, \"steps_offset\": 1, "
    "\"timestep_spacing\": \"leading\"}\n";

static const char model_index[] =
    "{\"_class_name\": \"StableDiffusionPipeline\", \"unet\": [\"diffusers\", "
    "\"UNet2DConditionModel\"], \"vae\": [\"diffusers\", \"AutoencoderKL\"], \"text_encoder\": "
    "[\"transformers\", \"CLIPTextModel\"], \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"], "
    "\"scheduler\": [\"diffusers\", \"DDIMScheduler\"]}\n";

static cn_status sub(cn_ctx *ctx, const char *out, const char *name, char path[4096])
{
    return cn_format(ctx, path, 4096, "%s/%s", out, name);
}

/* The schedule beside the manifests; without one that of SD 1.x. */
static cn_status write_scheduler(cn_ctx *ctx, const char *core, const char *dir)
{
    char path[4096], *text = NULL;
    size_t n = 0;
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/scheduler_config.json", core));
    if (!cn_file_exists(path)) return save_text(ctx, dir, "scheduler_config.json", scheduler);
    CN_TRY(cn_file_read(ctx, path, 1 << 20, &text, &n));
    cn_status s = save_text(ctx, dir, "scheduler_config.json", text);
    cn_free(text);
    return s;
}

/* SD 2.x's tokenizer pads with token 0, "!", as its text encoder's configuration says. */
static cn_status write_padding(cn_ctx *ctx, const char *core, const char *dir)
{
    char path[4096];
    json_t *manifest = NULL;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/text_encoder.manifest.json", core));
    CN_TRY(cn_json_load_file(ctx, path, &manifest));
    int64_t pad = cn_json_int(json_object_get(manifest, "config"), "pad_token_id", -1);
    json_decref(manifest);
    return pad == 0 ? save_text(ctx, dir, "tokenizer_config.json", "{\"pad_token\": \"!\"}\n")
                    : CN_OK;
}

cn_status tiny_model_write(cn_ctx *ctx, const char *core, const char *merges, const char *out)
{
    return tiny_model_write_unet(ctx, core, merges, NULL, out);
}

cn_status tiny_model_write_unet(cn_ctx *ctx, const char *core, const char *merges,
                                const json_t *unet, const char *out)
{
    static const struct {
        const char *network, *salt, *dir, *file;
    } networks[] = {
        {"unet", "", "model/unet", "diffusion_pytorch_model.safetensors"},
        {"vae", "", "model/vae", "diffusion_pytorch_model.safetensors"},
        {"text_encoder", "", "model/text_encoder", "model.safetensors"},
        {"controlnet", "a.", "controlnet_a", "diffusion_pytorch_model.safetensors"},
        {"controlnet", "b.", "controlnet_b", "diffusion_pytorch_model.safetensors"},
    };
    char path[4096], file[4096];
    for (size_t i = 0; i < CN_COUNT(networks); i++) {
        CN_TRY(sub(ctx, out, networks[i].dir, path));
        CN_TRY(write_network(ctx, core, networks[i].network, networks[i].salt, i == 0 ? unet : NULL,
                             path, networks[i].file));
    }
    CN_TRY(sub(ctx, out, "model/scheduler", path));
    CN_TRY(write_scheduler(ctx, core, path));
    CN_TRY(sub(ctx, out, "model/tokenizer", path));
    CN_TRY(write_tokenizer(ctx, merges, path));
    CN_TRY(write_padding(ctx, core, path));
    CN_TRY(sub(ctx, out, "model", path));
    CN_TRY(save_text(ctx, path, "model_index.json", model_index));
    CN_TRY(sub(ctx, out, "model.safetensors", file));
    return cn_convert(ctx, path, file, &(cn_convert_options){.to_single_file = true});
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void tiny_model_remove(const char *dir)
{
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
