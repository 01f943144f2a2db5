/* SPDX-License-Identifier: Apache-2.0 */
/* files.c - controlnet on good files in the forms that docs/files.md names: files [PROGRAM].
 *
 * A command is run twice, with a file as this program writes it and with the same content in
 * another form, and must draw the same picture, byte for byte unless a case says otherwise. The
 * work folder is made in /tmp and removed at the end.
 */
#include "../support/child.h"
#include "../support/report.h"
#include "../support/tiny_base.h"
#include "../support/tiny_model.h"

#include "image/image.h"
#include "io/tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <webp/encode.h>

enum { MAX_ARGS = 40, CPU_SECONDS = 120 };

static cn_ctx *ctx;
static test_report report;
static char program[PATH_MAX], root[64];

/* A path in the work folder. Each is made once and stays where it is. */
static const char *in_root(const char *name)
{
    static char paths[128][192];
    char path[192];
    int i = 0;
    snprintf(path, sizeof path, "%s/%s", root, name);
    while (i < (int)CN_COUNT(paths) - 1 && paths[i][0] && strcmp(paths[i], path) != 0) i++;
    snprintf(paths[i], sizeof paths[i], "%s", path);
    return paths[i];
}

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "files: %s: %s (%s)\n", what, strerror(errno), cn_error(ctx));
    tiny_dir_remove(root);
    exit(1);
}

/* --- running ---------------------------------------------------------------------------------- */

static char said[16384]; /* stderr of the last command */

/* The program's exit status; 128 and more: it didn't end by itself. */
static int run(const char *const *args)
{
    char *argv[MAX_ARGS + 2] = {program}, *text = NULL;
    const char *log = in_root("stderr");
    int status = -1;
    size_t n = 0;
    for (int i = 0; i < MAX_ARGS && args[i]; i++) argv[i + 1] = (char *)(uintptr_t)args[i];
    fflush(stdout);
    const pid_t pid = fork();
    must(pid >= 0, "a process");
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
        dup2(open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
        alarm(CPU_SECONDS);
        execv(program, argv);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    must(cn_file_read(ctx, log, 1 << 24, &text, &n) == CN_OK, "stderr");
    snprintf(said, sizeof said, "%.*s", (int)CN_MIN(n, sizeof said - 1), text);
    cn_free(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})
#define DRAW(out, ...)                                                                           \
    RUN("generate", "-m", in_root("model"), "-p", "a red cube", "-s", "1", "--steps", "2", "-o", \
        in_root(out), __VA_ARGS__)

static bool same_pictures(const char *a, const char *b)
{
    cn_image *x = NULL, *y = NULL;
    const bool same = cn_image_load(ctx, in_root(a), &x) == CN_OK &&
                      cn_image_load(ctx, in_root(b), &y) == CN_OK && x->width == y->width &&
                      x->height == y->height &&
                      memcmp(x->rgb, y->rgb, (size_t)(3 * x->width * x->height)) == 0;
    cn_image_destroy(x);
    cn_image_destroy(y);
    return same;
}

/* The last command ended with this status and drew `out` as `like` was drawn, or otherwise. */
static void check_drawn(const char *name, int status, const char *out, const char *like, bool same)
{
    const bool good = status == 0 && same_pictures(out, like) == same;
    report_check(&report, good, "%s%s%s", name, good ? "" : ": ", good ? "" : said);
}

/* --- masks ------------------------------------------------------------------------------------ */

typedef uint8_t (*pattern)(int x, int y, int c);

static uint8_t ramp(int x, int y, int c)
{
    return (uint8_t)(15 * x + (c ? 0 : y));
}

static uint8_t left_half(int x, int y, int c)
{
    (void)y, (void)c;
    return x < TINY_PX / 2 ? 255 : 0;
}

static uint8_t white(int x, int y, int c)
{
    (void)x, (void)y, (void)c;
    return 255;
}

static void fill(uint8_t *out, int channels, pattern colour, pattern alpha)
{
    for (int i = 0; i < TINY_PX * TINY_PX; i++)
        for (int c = 0; c < channels; c++)
            *out++ = (c == 3 ? alpha : colour)(i % TINY_PX, i / TINY_PX, c);
}

/* alpha NULL: RGB. */
static void put_png(const char *name, pattern colour, pattern alpha)
{
    uint8_t pixels[TINY_PX * TINY_PX * 4];
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = TINY_PX,
                     .height = TINY_PX,
                     .format = alpha ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB};
    fill(pixels, alpha ? 4 : 3, colour, alpha);
    must(png_image_write_to_file(&png, in_root(name), 0, pixels, 0, NULL), name);
}

static void put_webp(const char *name, pattern colour, pattern alpha)
{
    uint8_t pixels[TINY_PX * TINY_PX * 4], *file = NULL;
    fill(pixels, 4, colour, alpha);
    const size_t n = WebPEncodeLosslessRGBA(pixels, TINY_PX, TINY_PX, 4 * TINY_PX, &file);
    must(n && cn_file_write(ctx, in_root(name), file, n) == CN_OK, name);
    WebPFree(file);
}

static uint8_t top_left(int x, int y, int c)
{
    (void)c;
    return x < 6 && y < 6 ? 255 : 0;
}

/* How many pixels of `out` differ from init.png's, where `outside` says, or everywhere else. */
static int changed(const char *out, pattern mask, bool outside)
{
    cn_image *a = NULL, *b = NULL;
    int n = 0;
    must(cn_image_load(ctx, in_root("init.png"), &a) == CN_OK &&
             cn_image_load(ctx, in_root(out), &b) == CN_OK,
         out);
    must(a->width == b->width && a->height == b->height, out);
    for (int i = 0; i < TINY_PX * TINY_PX; i++)
        if ((mask(i % TINY_PX, i / TINY_PX, 0) == 0) == outside)
            n += memcmp(a->rgb + 3 * i, b->rgb + 3 * i, 3) != 0;
    cn_image_destroy(a);
    cn_image_destroy(b);
    return n;
}

/* What the mask keeps is the initial picture's, to the byte; what it doesn't is drawn. */
static void keeps_pixels(void)
{
    static const char *const fills[] = {"original", "fill", "latent-noise", "latent-nothing"};
    put_png("corner.png", top_left, NULL);
#define CORNER(...)                                                                               \
    DRAW("o.png", "-i", in_root("init.png"), "--mask", in_root("corner.png"), "--mask-blur", "0", \
         __VA_ARGS__)
    for (size_t i = 0; i < CN_COUNT(fills); i++) {
        const int status = CORNER("--inpainting-fill", fills[i]);
        report_check(&report,
                     status == 0 && changed("o.png", top_left, true) == 0 &&
                         changed("o.png", top_left, false) > 30,
                     "mask keeps pixels, fill %s", fills[i]);
    }
    int status =
        CORNER("--inpaint-full-res", "--inpaint-full-res-padding", "2", "-W", "16", "-H", "16");
    report_check(&report,
                 status == 0 && changed("o.png", top_left, true) == 0 &&
                     changed("o.png", top_left, false) > 20,
                 "mask keeps pixels, only masked");
    status = CORNER("--inpainting-mask-invert");
    report_check(&report,
                 status == 0 && changed("o.png", top_left, true) > 100 &&
                     changed("o.png", top_left, false) == 0,
                 "mask inverted");
    status = DRAW("o.png", "-i", in_root("init.png"), "--mask", in_root("corner.png"),
                  "--mask-blur", "1");
    report_check(&report,
                 status == 0 && changed("o.png", top_left, true) > 0 &&
                     changed("o.png", top_left, true) < 150,
                 "mask with a soft edge");
    status = CORNER("--mask-style", "diffusers");
    report_check(&report, status == 0 && changed("o.png", top_left, true) > 100,
                 "diffusers' mask keeps latents");
}

static void masks(void)
{
    put_png("init.png", ramp, NULL);
    put_png("half.png", left_half, NULL);
    put_png("all.png", white, NULL);
    put_png("half-alpha.png", white, left_half);
    put_png("half-opaque.png", left_half, white);
    put_webp("half-alpha.webp", white, left_half);
#define INPAINT(out, mask) \
    DRAW(out, "-i", in_root("init.png"), "--mask", in_root(mask), "--strength", "1")
    const int status = INPAINT("mask.png", "half.png");
    check_drawn("mask of half the picture", status, "mask.png", "mask.png", true);
    check_drawn("mask of all of it", INPAINT("o.png", "all.png"), "o.png", "mask.png", false);
    check_drawn("mask: PNG's alpha", INPAINT("o.png", "half-alpha.png"), "o.png", "mask.png", true);
    check_drawn("mask: WebP's alpha", INPAINT("o.png", "half-alpha.webp"), "o.png", "mask.png",
                true);
    check_drawn("mask: opaque alpha", INPAINT("o.png", "half-opaque.png"), "o.png", "mask.png",
                true);
    keeps_pixels();
#define REGION(out, mask)                                                                  \
    DRAW(out, "--control-net", in_root("control"), "--control-image", in_root("init.png"), \
         "--control-mask", in_root(mask))
    const int region = REGION("region.png", "half.png");
    check_drawn("control mask of half the picture", region, "region.png", "region.png", true);
    check_drawn("control mask of all of it", REGION("o.png", "all.png"), "o.png", "region.png",
                false);
    check_drawn("control mask: PNG's alpha", REGION("o.png", "half-alpha.png"), "o.png",
                "region.png", true);
    check_drawn("control mask: WebP's alpha", REGION("o.png", "half-alpha.webp"), "o.png",
                "region.png", true);
}

/* --- LoRAs ------------------------------------------------------------------------------------ */

enum { LORA_O = 8, LORA_I = 4 };
#define LORA_KEY "lora_unet_conv_in"

static float lora_up[LORA_O * 1], lora_down[LORA_I * 9];

/* A LoRA of rank 1 on conv_in under the names of kohya (alpha 2) or peft, with further tensors. */
static void put_lora(const char *name, bool pefts, const cn_tensor_out *more, int n_more)
{
    static const float two[] = {2};
    cn_tensor_out list[8] = {
        {.name = pefts ? "base_model.model.conv_in.lora_A.weight" : LORA_KEY ".lora_down.weight",
         .ndim = 4,
         .shape = {1, LORA_I, 3, 3},
         .data = lora_down},
        {.name = pefts ? "base_model.model.conv_in.lora_B.weight" : LORA_KEY ".lora_up.weight",
         .ndim = 4,
         .shape = {LORA_O, 1, 1, 1},
         .data = lora_up}};
    int n = 2;
    if (!pefts) list[n++] = (cn_tensor_out){.name = LORA_KEY ".alpha", .data = two};
    for (int i = 0; i < n_more; i++) list[n++] = more[i];
    must(cn_safetensors_write(ctx, in_root(name), list, n, NULL, NULL, NULL) == CN_OK, name);
}

static void put_text(const char *name, const char *text)
{
    must(cn_file_write(ctx, in_root(name), text, strlen(text)) == CN_OK, name);
}

static void loras(void)
{
    static float vectors[2 * 16];
    const cn_tensor_out word = {.name = "emb_params", .ndim = 2, .shape = {2, 16}, .data = vectors};
    cn_tensor_out bundled = word;
    bundled.name = "bundle_emb.sparkle.emb_params";
    cn_seed_tensor("lora.up", 0, 1, lora_up, LORA_O);
    cn_seed_tensor("lora.down", 0, 1, lora_down, LORA_I * 9);
    cn_seed_tensor("word", 0, 1, vectors, 2 * 16);
    put_lora("kohya.safetensors", false, NULL, 0);
    must(mkdir(in_root("adapter"), 0755) == 0, "adapter");
    put_lora("adapter/adapter_model.safetensors", true, NULL, 0);
    put_text("adapter/adapter_config.json",
             "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 2}");
    check_drawn("without a LoRA", DRAW("plain.png", "-W", "16"), "plain.png", "plain.png", true);
    const int status = DRAW("lora.png", "--lora", in_root("kohya.safetensors"));
    check_drawn("kohya's LoRA", status, "lora.png", "plain.png", false);
    check_drawn("peft's folder", DRAW("o.png", "--lora", in_root("adapter")), "o.png", "lora.png",
                true);
    check_drawn("peft's file",
                DRAW("o.png", "--lora", in_root("adapter/adapter_model.safetensors")), "o.png",
                "lora.png", true);
    put_lora("caf\xe9.safetensors", false, NULL, 0);
    check_drawn("a LoRA whose name isn't UTF-8",
                DRAW("o.png", "--lora", in_root("caf\xe9.safetensors")), "o.png", "lora.png", true);
    report_check(&report, strstr(said, "--lora isn't UTF-8") != NULL, "it says what isn't kept");
    must(mkdir(in_root("words"), 0755) == 0 && mkdir(in_root("bundles"), 0755) == 0, "words");
    must(cn_safetensors_write(ctx, in_root("words/sparkle.safetensors"), &word, 1, NULL, NULL,
                              NULL) == CN_OK,
         "words/sparkle.safetensors");
    put_lora("bundles/both.safetensors", false, &bundled, 1);
#define SPARKLE(out, ...) DRAW(out, "-p", "a sparkle cube", "--prompt-style", "webui", __VA_ARGS__)
    const int words = SPARKLE("words.png", "--lora", in_root("kohya.safetensors"),
                              "--embeddings-dir", in_root("words"));
    check_drawn("a word of its own", words, "words.png", "lora.png", false);
    check_drawn("a word in a LoRA's file",
                SPARKLE("o.png", "--lora", in_root("bundles/both.safetensors")), "o.png",
                "words.png", true);
    check_drawn("a word in a LoRA that the prompt names",
                DRAW("o.png", "-p", "a sparkle cube<lora:both:1>", "--prompt-style", "webui",
                     "--lora-dir", in_root("bundles")),
                "o.png", "words.png", true);
}

/* --- a base model's forms --------------------------------------------------------------------- */

static void add_le(cn_str *s, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        const char b = (char)(v >> (8 * i));
        cn_str_add(s, &b, 1);
    }
}

/* The single file's tensors as a GGUF file, F32 and, of rows of 32 at least, Q8_0. */
static void put_gguf(const char *name, bool q8)
{
    cn_str s = {0}, data = {0};
    cn_tensors *t = NULL;
    must(cn_tensors_open(ctx, in_root("published/model.safetensors"), &t) == CN_OK,
         "published/model.safetensors");
    cn_str_adds(&s, "GGUF");
    add_le(&s, 3, 4);
    add_le(&s, (uint64_t)cn_tensors_count(t), 8);
    add_le(&s, 0, 8);
    for (int64_t i = 0; i < cn_tensors_count(t); i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        const bool blocks = q8 && info->ndim == 2 && info->shape[1] % CN_Q8_BLOCK == 0;
        const size_t bytes = cn_dtype_size(blocks ? CN_Q8 : CN_F32, info->elements);
        float *values = cn_alloc_array(ctx, (size_t)info->elements + 1, sizeof *values);
        char *stored = cn_alloc(ctx, bytes + 1);
        must(values && stored && cn_tensors_read(ctx, t, info, values) == CN_OK, info->name);
        cn_from_f32(blocks ? CN_Q8 : CN_F32, values, stored, (size_t)info->elements);
        add_le(&s, strlen(info->name), 8);
        cn_str_adds(&s, info->name);
        add_le(&s, (uint64_t)info->ndim, 4);
        for (int k = info->ndim; k-- > 0;) add_le(&s, (uint64_t)info->shape[k], 8);
        add_le(&s, blocks ? 8 : 0, 4);
        add_le(&s, data.len, 8);
        cn_str_add(&data, stored, bytes);
        while (data.len % 32) add_le(&data, 0, 1);
        cn_free(values);
        cn_free(stored);
    }
    while (s.len % 32) add_le(&s, 0, 1);
    cn_str_add(&s, data.data, data.len);
    must(!s.failed && cn_file_write(ctx, in_root(name), s.data, s.len) == CN_OK, name);
    cn_str_free(&s);
    cn_str_free(&data);
    cn_tensors_close(t);
}

/* The single file with the UNet's weights under the names of their averages. */
static void put_renamed(const char *name)
{
    static const char unet[] = "model.diffusion_model.";
    cn_tensors *t = NULL;
    must(cn_tensors_open(ctx, in_root("published/model.safetensors"), &t) == CN_OK,
         "published/model.safetensors");
    const int64_t n = cn_tensors_count(t);
    cn_tensor_out *list = cn_alloc0(ctx, (size_t)n * sizeof *list);
    char(*names)[256] = cn_alloc0(ctx, (size_t)n * sizeof *names);
    must(list && names, name);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        char *to = names[i];
        snprintf(to, sizeof names[0], "%s", info->name);
        if (!strncmp(info->name, unet, sizeof unet - 1)) {
            to += snprintf(to, sizeof names[0], "model_ema.diffusion_model");
            for (const char *c = info->name + sizeof unet - 1; *c; c++)
                if (*c != '.') *to++ = *c;
            *to = 0;
        }
        list[i] = (cn_tensor_out){
            .name = names[i], .dtype = info->dtype, .ndim = info->ndim, .raw = info->data};
        memcpy(list[i].shape, info->shape, sizeof info->shape);
    }
    must(cn_safetensors_write(ctx, in_root(name), list, n, NULL, NULL, NULL) == CN_OK, name);
    cn_free(list);
    cn_free(names);
    cn_tensors_close(t);
}

/* The whole-model file again with its UNet's elements in 8 bits: 0 and 1/64 in turn. */
static void put_f8(const char *name, cn_dtype type)
{
    enum { MOST = 1 << 20 };
    static unsigned char eight[MOST];
    static float same[MOST];
    cn_tensors *t = NULL;
    for (int i = 0; i < MOST; i++)
        eight[i] = (unsigned char)(i % 3 ? 0 : type == CN_F8_E4M3 ? 8 : 0x24);
    cn_to_f32(type, eight, same, MOST);
    must(cn_tensors_open(ctx, in_root("published/model.safetensors"), &t) == CN_OK,
         "published/model.safetensors");
    const int64_t n = cn_tensors_count(t);
    cn_tensor_out *list = cn_alloc0(ctx, (size_t)n * sizeof *list);
    must(list != NULL, name);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        const bool of_unet = !strncmp(info->name, "model.diffusion_model.", 22);
        list[i] = (cn_tensor_out){
            .name = info->name, .dtype = info->dtype, .ndim = info->ndim, .raw = info->data};
        memcpy(list[i].shape, info->shape, sizeof info->shape);
        if (!of_unet || info->elements > MOST) continue;
        list[i].dtype = strstr(name, "f32") ? CN_F32 : type;
        list[i].raw = list[i].dtype == CN_F32 ? (const void *)same : eight;
    }
    must(cn_safetensors_write(ctx, in_root(name), list, n, NULL, NULL, NULL) == CN_OK, name);
    cn_free(list);
    cn_tensors_close(t);
}

#define DRAW_WITH(out, model)                                                                   \
    RUN("generate", "-m", in_root(model), "--tokenizer", in_root("published/model/tokenizer"),  \
        "-p", "a cute dog", "-s", "1", "--steps", "2", "-W", "64", "-H", "64", "--weight-type", \
        "f32", "-o", in_root(out))

/* Its shapes tell all of its configuration, which other programs' files don't say. */
static void bases(void)
{
    must(tiny_model_write(ctx, "tests/golden/core", "tests/golden/pipelines/merges.json",
                          in_root("published")) == CN_OK,
         "published");
    const int status = DRAW_WITH("one.png", "published/model");
    check_drawn("a folder", status, "one.png", "one.png", true);
    check_drawn("a single file", DRAW_WITH("o.png", "published/model.safetensors"), "o.png",
                "one.png", true);
    put_gguf("f32.gguf", false);
    put_gguf("q8.gguf", true);
    check_drawn("GGUF in F32", DRAW_WITH("o.png", "f32.gguf"), "o.png", "one.png", true);
    check_drawn("GGUF in Q8_0", DRAW_WITH("q8.png", "q8.gguf"), "q8.png", "one.png", false);
    check_drawn("a folder made of a GGUF file",
                RUN("convert", in_root("f32.gguf"), in_root("from-gguf"), "--dtype", "f32"),
                "one.png", "one.png", true);
    check_drawn("which draws the same", DRAW_WITH("o.png", "from-gguf"), "o.png", "one.png", true);
    put_renamed("averages.safetensors");
    check_drawn("averages alone", DRAW_WITH("o.png", "averages.safetensors"), "o.png", "one.png",
                true);
    report_check(&report, strstr(said, "averages (EMA)") != NULL, "averages alone are told: %s",
                 said);
    put_f8("f8_e4m3.safetensors", CN_F8_E4M3);
    put_f8("f8_e4m3_f32.safetensors", CN_F8_E4M3);
    put_f8("f8_e5m2.safetensors", CN_F8_E5M2);
    put_f8("f8_e5m2_f32.safetensors", CN_F8_E5M2);
    check_drawn("8 bits as F32", DRAW_WITH("f8.png", "f8_e4m3_f32.safetensors"), "f8.png",
                "one.png", false);
    check_drawn("F8_E4M3", DRAW_WITH("o.png", "f8_e4m3.safetensors"), "o.png", "f8.png", true);
    check_drawn("8 bits as F32", DRAW_WITH("f8.png", "f8_e5m2_f32.safetensors"), "f8.png",
                "one.png", false);
    check_drawn("F8_E5M2", DRAW_WITH("o.png", "f8_e5m2.safetensors"), "o.png", "f8.png", true);
}

/* --- VAEs from elsewhere ---------------------------------------------------------------------- */

/* The VAE of the single file under its names without prefix, with `shift` on the picture's
 * channels; or, whole, all but the VAE. */
static void put_vae(const char *name, bool whole, float shift)
{
    static const char stage[] = "first_stage_model.";
    static float bias[3];
    const size_t k = sizeof stage - 1;
    cn_tensors *t = NULL;
    must(cn_tensors_open(ctx, in_root("published/model.safetensors"), &t) == CN_OK,
         "published/model.safetensors");
    const int64_t n = cn_tensors_count(t);
    int64_t kept = 0;
    cn_tensor_out *list = cn_alloc0(ctx, (size_t)n * sizeof *list);
    must(list != NULL, name);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        const bool of_vae = !strncmp(info->name, stage, k);
        if (of_vae == whole) continue;
        cn_tensor_out *o = &list[kept++];
        *o = (cn_tensor_out){.name = info->name + (of_vae ? k : 0),
                             .dtype = info->dtype,
                             .ndim = info->ndim,
                             .raw = info->data};
        memcpy(o->shape, info->shape, sizeof info->shape);
        if (shift == 0 || strcmp(o->name, "decoder.conv_out.bias") != 0) continue;
        must(cn_tensors_read(ctx, t, info, bias) == CN_OK, o->name);
        for (int c = 0; c < 3; c++) bias[c] += shift;
        o->dtype = CN_F32;
        o->raw = bias;
    }
    must(cn_safetensors_write(ctx, in_root(name), list, kept, NULL, NULL, NULL) == CN_OK, name);
    cn_free(list);
    cn_tensors_close(t);
}

/* The folder of the small model without its VAE. */
static void link_without_vae(const char *name)
{
    static const char *const parts[] = {"unet", "text_encoder", "tokenizer", "scheduler"};
    must(mkdir(in_root(name), 0755) == 0, name);
    for (size_t i = 0; i < CN_COUNT(parts); i++) {
        char from[256], to[256];
        snprintf(from, sizeof from, "%.200s/%.40s", in_root("model"), parts[i]);
        snprintf(to, sizeof to, "%.200s/%.40s", in_root(name), parts[i]);
        must(symlink(from, to) == 0, to);
    }
}

#define DRAW_VAE(out, model, vae)                                                               \
    RUN("generate", "-m", in_root(model), "--tokenizer", in_root("published/model/tokenizer"),  \
        "-p", "a cute dog", "-s", "1", "--steps", "2", "-W", "64", "-H", "64", "--weight-type", \
        "f32", "--vae", in_root(vae), "-o", in_root(out))
#define TRAIN(model, out, ...)                                                                    \
    RUN("train", "-m", in_root(model), "--train-data-dir", in_root("data"), "--resolution", "16", \
        "--threads", "1", "--max-train-steps", "2", "--validation-steps", "0",                    \
        "--checkpointing-steps", "0", "--learning-rate", "0.1", "-o", in_root(out), __VA_ARGS__)
#define DRAW_CONTROL(out, control) \
    DRAW(out, "--control-net", in_root(control), "--control-image", in_root("init.png"))

static void vaes(void)
{
    static const char *const sources[] = {"published/model/vae", "published/model",
                                          "published/model.safetensors", "vae.safetensors"};
    put_vae("no-vae.safetensors", true, 0);
    put_vae("vae.safetensors", false, 0);
    put_vae("other-vae.safetensors", false, 0.5f);
    const int without = DRAW_WITH("o.png", "no-vae.safetensors");
    report_check(&report, without == 1 && strstr(said, "--vae FILE|DIR"),
                 "a base without a VAE: %s", said);
    for (size_t i = 0; i < CN_COUNT(sources); i++)
        check_drawn(sources[i], DRAW_VAE("o.png", "no-vae.safetensors", sources[i]), "o.png",
                    "one.png", true);
    check_drawn("another VAE", DRAW_VAE("other.png", "published/model", "other-vae.safetensors"),
                "other.png", "one.png", false);
    char *text = NULL;
    must(cn_png_text(ctx, in_root("other.png"), "parameters", &text) == CN_OK, "parameters");
    report_check(&report, strstr(text, "Model: model, VAE: other-vae, "),
                 "its parameters name the VAE: %s", text);
    cn_free(text);
    const int joined = RUN("convert", in_root("no-vae.safetensors"), in_root("joined.safetensors"),
                           "--dtype", "f32", "--vae", in_root("other-vae.safetensors"));
    check_drawn("joined by convert", joined, "one.png", "one.png", true);
    check_drawn("which draws the same", DRAW_WITH("o.png", "joined.safetensors"), "o.png",
                "other.png", true);
    report_check(&report,
                 RUN("convert", in_root("no-vae.safetensors"), in_root("tiny.safetensors"), "--vae",
                     "tests/golden/files/taesd") == 1 &&
                     strstr(said, "isn't written with a tiny VAE"),
                 "a tiny VAE isn't written: %s", said);
    link_without_vae("bare");
    report_check(&report, TRAIN("bare", "c", "--seed", "42") == 1 && strstr(said, "give --vae"),
                 "training without a VAE: %s", said);
    const int own = TRAIN("model", "own", "--seed", "42");
    check_drawn("trained with its own VAE", own ? own : DRAW_CONTROL("own.png", "own"), "own.png",
                "own.png", true);
    const int given = TRAIN("bare", "given", "--seed", "42", "--vae", in_root("model/vae"));
    check_drawn("trained with the same given", given ? given : DRAW_CONTROL("o.png", "given"),
                "o.png", "own.png", true);
}

/* --- the whole -------------------------------------------------------------------------------- */

/* A base, and a ControlNet whose zero convolutions have learned a little. */
static void make_models(void)
{
    must(tiny_base_write(ctx, in_root("model"), 8) == CN_OK, "model");
    must(tiny_scenes_write(ctx, in_root("data"), 8) == CN_OK, "data");
    must(RUN("train", "-m", in_root("model"), "--train-data-dir", in_root("data"), "--resolution",
             "16", "--threads", "1", "--max-train-steps", "2", "--validation-steps", "0",
             "--checkpointing-steps", "0", "--learning-rate", "0.1", "-o", in_root("control")) == 0,
         said);
}

int main(int argc, char **argv)
{
    if (!test_find_controlnet(argc > 1 ? argv[1] : NULL, program)) return 1;
    ctx = cn_ctx_create(1);
    if (!ctx || !tiny_dir_make(root)) return 1;
    setenv("OMP_NUM_THREADS", "1", 1);
    make_models();
    masks();
    loras();
    bases();
    vaes();
    tiny_dir_remove(root);
    cn_ctx_destroy(ctx);
    return report_end(&report);
}
