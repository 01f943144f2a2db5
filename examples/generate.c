/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c - a drawing along the edges of a picture: generate MODEL CONTROLNET PICTURE "PROMPT"
 * OUT.png
 *
 *   cc generate.c $(pkg-config --cflags --libs controlnet) -o generate
 *
 * MODEL and CONTROLNET are files or folders as Stable Diffusion 1.x and 2.x are published; without
 * a ControlNet ("-" for it and for the picture) the prompt alone is drawn.
 */
#include <controlnet.h>
#include <stdio.h>
#include <string.h>

static void show_step(void *user, const char *stage, int done, int total)
{
    (void)user;
    fprintf(stderr, "\r%-12s %d/%d ", stage, done, total);
    if (done == total) fputc('\n', stderr);
}

static cn_status draw(cn_ctx *ctx, char **argv)
{
    int n_controls = strcmp(argv[2], "-") != 0;
    cn_pipeline_options opening = {
        .model = argv[1], .controls = (const char *const *)&argv[2], .n_controls = n_controls};
    cn_control_options control = {.preprocessor = "canny", .strength = 1, .end = 1};
    cn_generate_options options;
    cn_generate_defaults(&options);
    options.prompt = argv[4];
    options.sampler = "unipc";
    options.steps = 12;
    options.seed = 7;
    options.controls = &control;
    options.progress = show_step;

    cn_image *picture = NULL;
    cn_pipeline *pipeline = NULL;
    cn_generated *drawn = NULL;
    cn_status s = CN_OK;
    if (n_controls) s = cn_image_load(ctx, argv[3], &picture);
    control.image = picture;
    if (s == CN_OK) s = cn_pipeline_create(ctx, &opening, &pipeline);
    if (s == CN_OK) s = cn_generate(pipeline, &options, &drawn);
    if (s == CN_OK) {
        const char *text[] = {"parameters", drawn->parameters[0], NULL};
        s = cn_image_save_png(ctx, argv[5], drawn->images[0], text);
    }
    cn_generated_destroy(drawn);
    cn_pipeline_destroy(pipeline);
    cn_image_destroy(picture);
    return s;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: generate MODEL CONTROLNET|- PICTURE|- PROMPT OUT.png\n");
        return 2;
    }
    cn_ctx *ctx = cn_ctx_create(0);
    if (!ctx) return 1;
    cn_status s = draw(ctx, argv);
    if (s != CN_OK) fprintf(stderr, "generate: %s\n", cn_error(ctx));
    cn_ctx_destroy(ctx);
    return s == CN_OK ? 0 : 1;
}
