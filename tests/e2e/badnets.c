/* SPDX-License-Identifier: Apache-2.0 */
/* badnets.c - files of every kind of network that steers a drawing, damaged, of another kind, for
 * another base: badnets [PROGRAM].
 *
 * A table of kinds, a table of faults; each kind meets each fault. What a case expects:
 * tests/support/bad/bad_case.h.
 */
#include "../support/bad/bad_case.h"
#include "../support/tiny_base.h"
#include "../support/tiny_model.h"

#include "image/image.h"
#include "io/tensors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAW(base)                                                                              \
    "generate", "-m", in_root(base), "-p", "a red cube", "-s", "1", "--steps", "1", "-W", "64", \
        "-H", "64", "-o", in_root("out.png")
#define WITH(file) "--control-net", in_root(file), "--control-image", in_root("picture.png")
#define LIKE       "--image-prompt", in_root("picture.png")
#define IP         "tests/golden/ip_adapter"

/* --- files ------------------------------------------------------------------------------------ */

/* Writes `from` as `to` with one of its tensors, that of the middle, gone or with twice as many
 * rows. */
typedef enum change { GONE, LARGER } change;
static void put_changed(const char *from, const char *to, change what)
{
    cn_tensors *t = NULL;
    must(cn_tensors_open(ctx, from, &t) == CN_OK, from);
    const int64_t n = cn_tensors_count(t);
    int64_t k = n / 2, out = 0;
    while (k < n - 1 && cn_tensors_at(t, k)->ndim < 2) k++;
    cn_tensor_out *list = calloc((size_t)n, sizeof *list);
    char *zeros = calloc(2, (size_t)cn_tensors_at(t, k)->elements * 4 + 1);
    must(list && zeros, "memory");
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *a = cn_tensors_at(t, i);
        if (i == k && what == GONE) continue;
        list[out] =
            (cn_tensor_out){.name = a->name, .dtype = a->dtype, .ndim = a->ndim, .raw = a->data};
        memcpy(list[out].shape, a->shape, sizeof a->shape);
        if (i == k) {
            list[out].shape[0] *= 2;
            list[out].raw = zeros;
        }
        out++;
    }
    must(cn_safetensors_write(ctx, in_root(to), list, out, NULL, NULL, NULL) == CN_OK, to);
    free(list);
    free(zeros);
    cn_tensors_close(t);
}

/* A file of one matrix. */
static void put_one(const char *to, const char *name)
{
    static const float zeros[64];
    const cn_tensor_out one = {
        .name = name, .dtype = CN_F32, .ndim = 2, .shape = {8, 8}, .data = zeros};
    must(cn_safetensors_write(ctx, in_root(to), &one, 1, NULL, NULL, NULL) == CN_OK, to);
}

/* A black picture as large as the drawings. */
static void put_picture(void)
{
    cn_image *image = NULL;
    must(cn_image_create(ctx, 64, 64, &image) == CN_OK &&
             cn_image_save_png(ctx, in_root("picture.png"), image, NULL) == CN_OK,
         "picture.png");
    cn_image_destroy(image);
}

static void copy(const char *from, const char *to)
{
    char *data = NULL;
    size_t n = 0;
    must(cn_file_read(ctx, from, 1 << 28, &data, &n) == CN_OK, from);
    put(to, data, n);
    cn_free(data);
}

/* --- kinds that are trained ------------------------------------------------------------------- */

static const struct kind {
    const char *name, *type;
} kinds[] = {
    {"controlnet", NULL},   {"controlnet-small", NULL}, {"union", "canny"},
    {"control-lora", NULL}, {"lllite", NULL},           {"t2i-adapter", NULL},
};
static const char *const families[] = {"sd", "xl"};

/* One step of training makes KIND-FAMILY.safetensors; it draws. */
static void make_kind(const struct kind *k, const char *family)
{
    char dir[64], file[96], path[256];
    snprintf(dir, sizeof dir, "%s-%s", k->name, family);
    snprintf(file, sizeof file, "%s.safetensors", dir);
    PREPARE("train", "-m", in_root(family), "--train-data-dir", in_root("data"), "--resolution",
            "64", "--threads", "1", "--max-train-steps", "1", "--validation-steps", "0",
            "--checkpointing-steps", "0", "--control-kind", k->name, "-o", in_root(dir),
            k->type ? "--control-type" : NULL, k->type);
    snprintf(path, sizeof path, "%s/control.safetensors", in_root(dir));
    copy(path, file);
    tiny_dir_remove(in_root(dir));
    PREPARE(DRAW(family), WITH(file), k->type ? "--control-type" : NULL, k->type);
}

static void bad_kind(const struct kind *k, const char *family)
{
    const bool sd = family == families[0];
    const char *const other = families[sd];
    char file[96], title[128];
    snprintf(file, sizeof file, "%s-%s.safetensors", k->name, family);
#define KIND_CHECK(what, base, net, ...)                                  \
    snprintf(title, sizeof title, "%s of %s: %s", k->name, family, what); \
    CHECK(title, 1, SAYS(net, __VA_ARGS__), DRAW(base), WITH(net),        \
          k->type ? "--control-type" : NULL, k->type)
    put_part("half.safetensors", file, 1, 2);
    KIND_CHECK("half of the file", family, "half.safetensors", "truncated or damaged");
    put_changed(in_root(file), "gone.safetensors", GONE);
    KIND_CHECK("a tensor missing", family, "gone.safetensors", NULL);
    put_changed(in_root(file), "larger.safetensors", LARGER);
    KIND_CHECK("a tensor of another width", family, "larger.safetensors", NULL);
    KIND_CHECK("a base of the other family", other, file, "base model");
    if (sd) {
        KIND_CHECK("a base of another width", "wide", file, "base model");
    }
#undef KIND_CHECK
}

/* TencentARC's light adapter, by the first tensors of its two levels; the second one's are gone. */
static void bad_light(void)
{
    static const float zeros[64 * 9];
    static const char *const names[] = {"body.0.in_conv.weight", "body.0.body.0.block1.weight",
                                        "body.0.out_conv.weight", "body.1.body.0.block1.weight"};
    cn_tensor_out list[CN_COUNT(names)];
    for (size_t i = 0; i < CN_COUNT(names); i++)
        list[i] = (cn_tensor_out){
            .name = names[i], .dtype = CN_F32, .ndim = 4, .shape = {4, 4, 1, 1}, .data = zeros};
    list[0].shape[1] = 64;
    must(cn_safetensors_write(ctx, in_root("light.safetensors"), list, CN_COUNT(names), NULL, NULL,
                              NULL) == CN_OK,
         "light");
    CHECK("light adapter: a level's end missing", 1,
          SAYS("light.safetensors", "body.1.out_conv.weight is missing"), DRAW("sd"),
          WITH("light.safetensors"));
}

/* --- image prompts and refiners --------------------------------------------------------------- */

/* The folder FROM of one network as TO, whose weights lack a tensor or have a larger one, or are
 * cut. */
static void put_folder(const char *from, const char *to, const char *weights, const char *how)
{
    char path[512], name[128];
    must(mkdir(in_root(to), 0755) == 0, to);
    snprintf(path, sizeof path, "%s/config.json", from);
    snprintf(name, sizeof name, "%s/config.json", to);
    copy(path, name);
    snprintf(path, sizeof path, "%s/%s", from, weights);
    snprintf(name, sizeof name, "%s/%s", to, weights);
    if (!strcmp(how, "half")) {
        copy(path, name);
        put_part(name, name, 1, 2);
    } else {
        put_changed(path, name, strcmp(how, "gone") ? LARGER : GONE);
    }
}

#define DRAW_DOG                                                                                \
    "generate", "-m", in_root("published/model"), "-p", "dog", "-s", "1", "--steps", "1", "-W", \
        "64", "-H", "64", "-o", in_root("out.png"), "--image-prompt", in_root("picture.png")

static const char *const hows[] = {"half", "gone", "larger"};

static void bad_image_prompts(void)
{
    static const char plain[] = IP "/plain.safetensors", encoder[] = IP "/image_encoder";
    char title[128], name[64];
    must(tiny_model_write(ctx, "tests/golden/core", "tests/golden/pipelines/merges.json",
                          in_root("published")) == CN_OK,
         "published");
    PREPARE(DRAW_DOG, "--image-encoder", encoder, "--ip-adapter", plain);
    for (size_t i = 0; i < CN_COUNT(hows); i++) {
        snprintf(name, sizeof name, "ip-%s.safetensors", hows[i]);
        if (i == 0) copy(plain, name);
        if (i == 0) put_part(name, name, 1, 2);
        if (i > 0) put_changed(plain, name, i == 1 ? GONE : LARGER);
        snprintf(title, sizeof title, "IP-Adapter: %s", hows[i]);
        CHECK(title, 1, SAYS(name), DRAW_DOG, "--image-encoder", encoder, "--ip-adapter",
              in_root(name));
        snprintf(name, sizeof name, "encoder-%s", hows[i]);
        put_folder(encoder, name, "model.safetensors", hows[i]);
        snprintf(title, sizeof title, "image encoder: %s", hows[i]);
        CHECK(title, 1, SAYS(name), DRAW_DOG, "--ip-adapter", plain, "--image-encoder",
              in_root(name));
    }
    CHECK("IP-Adapter of SDXL", 1, SAYS("xl.safetensors", "base model"), DRAW_DOG,
          "--image-encoder", encoder, "--ip-adapter", IP "/xl.safetensors");
    CHECK("IP-Adapter of SD with SDXL", 1, SAYS("plain.safetensors", "base model"), DRAW("xl"),
          "--image-prompt", in_root("picture.png"), "--image-encoder", encoder, "--ip-adapter",
          plain);
}

static void bad_refiners(void)
{
    char title[128], name[64], from[256];
    must(tiny_refiner_write(ctx, in_root("refiner")) == CN_OK, "refiner");
    must(tiny_sdxl_write(ctx, in_root("base")) == CN_OK, "base");
    PREPARE(DRAW("base"), "--refiner", in_root("refiner"), "--refiner-start", "0.5", "--steps",
            "2");
    snprintf(from, sizeof from, "%s", in_root("refiner/unet"));
    for (size_t i = 0; i < CN_COUNT(hows); i++) {
        snprintf(name, sizeof name, "unet-%s", hows[i]);
        put_folder(from, name, "diffusion_pytorch_model.safetensors", hows[i]);
        must(rename(in_root("refiner/unet"), in_root("unet-good")) == 0 &&
                 rename(in_root(name), in_root("refiner/unet")) == 0,
             name);
        snprintf(title, sizeof title, "refiner: %s of its UNet", hows[i]);
        CHECK(title, 1, SAYS("refiner/unet"), DRAW("base"), "--refiner", in_root("refiner"),
              "--refiner-start", "0.5", "--steps", "2");
        must(rename(in_root("refiner/unet"), in_root(name)) == 0 &&
                 rename(in_root("unet-good"), in_root("refiner/unet")) == 0,
             name);
    }
    CHECK("refiner whose latents aren't the base's", 1, SAYS("refiner", "latents"), DRAW("sd"),
          "--refiner", in_root("refiner"), "--refiner-start", "0.5", "--steps", "2");
}

/* --- files of other kinds --------------------------------------------------------------------- */

static void foreign_files(void)
{
    static const struct {
        const char *name, *tensor, *says;
    } files[] = {
        {"lora.safetensors", "lora_unet_conv_in.lora_down.weight", "a LoRA"},
        {"inversion.safetensors", "emb_params", "textual inversion"},
        {"style.safetensors", "style_embedding", "style adapter"},
        {"vae.safetensors", "encoder.down.0.block.0.conv1.weight", "VAE"},
        {"motion.safetensors", "down_blocks.0.motion_modules.0.x.weight", "AnimateDiff"},
        {"flux.safetensors", "double_blocks.0.img_attn.qkv.weight", "not Stable Diffusion"},
        {"other.safetensors", "some.weight", "no known layout"},
    };
    char title[128];
    for (size_t i = 0; i < CN_COUNT(files); i++) {
        const char *const path = in_root(files[i].name);
        put_one(files[i].name, files[i].tensor);
        snprintf(title, sizeof title, "%s as control network", files[i].says);
        CHECK(title, 1, SAYS(files[i].name, files[i].says), DRAW("xl"), WITH(files[i].name));
        snprintf(title, sizeof title, "%s as IP-Adapter", files[i].says);
        CHECK(title, 1, SAYS(files[i].name, files[i].says), DRAW("xl"), LIKE, "--ip-adapter", path);
        snprintf(title, sizeof title, "%s as image encoder", files[i].says);
        CHECK(title, 1, SAYS(files[i].name), DRAW("xl"), "--image-encoder", path);
        snprintf(title, sizeof title, "%s as refiner", files[i].says);
        CHECK(title, 1, SAYS(files[i].name, files[i].says), DRAW("xl"), "--refiner", path);
    }
}

int main(int argc, char **argv)
{
    if (!bad_open(argc, argv)) return 1;
    must(tiny_eight_write(ctx, in_root("sd"), false) == CN_OK, "sd");
    must(tiny_eight_write(ctx, in_root("xl"), true) == CN_OK, "xl");
    must(tiny_base_write(ctx, in_root("wide"), 16) == CN_OK, "wide");
    must(tiny_scenes_write(ctx, in_root("data"), 2) == CN_OK, "data");
    put_picture();
    for (size_t f = 0; f < CN_COUNT(families); f++)
        for (size_t i = 0; i < CN_COUNT(kinds); i++) {
            make_kind(&kinds[i], families[f]);
        }
    for (size_t f = 0; f < CN_COUNT(families); f++)
        for (size_t i = 0; i < CN_COUNT(kinds); i++) bad_kind(&kinds[i], families[f]);
    bad_light();
    bad_image_prompts();
    bad_refiners();
    foreign_files();
    return bad_close();
}
