/* SPDX-License-Identifier: Apache-2.0 */
/* train.c - trains a ControlNet: train MODEL DATA OUT STEPS
 *
 *   cc train.c $(pkg-config --cflags --libs controlnet) -o train
 *
 * DATA is a data set in any of the layouts of cn_dataset_check; where there is nothing yet,
 * procedural scenes with their edges are written first. OUT gets the ControlNet in both layouts,
 * curves and checkpoints. Ctrl-C stops after the step that is being made and saves; the same
 * command then goes on.
 */
#include <controlnet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SCENES = 64, SCENE_PX = 128 };

static cn_ctx *ctx;

static void stop(int number)
{
    (void)number;
    cn_cancel(ctx);
}

static void show_step(void *user, const cn_train_progress *p)
{
    (void)user;
    fprintf(stderr, "\r%-10s %lld/%lld", p->stage, (long long)p->done, (long long)p->total);
    if (p->loss > 0) fprintf(stderr, "  loss %.4f  %.2f s a step ", p->loss_mean, p->step_seconds);
    if (p->done == p->total) fputc('\n', stderr);
}

static cn_status train(char **argv)
{
    if (access(argv[2], F_OK) != 0) {
        cn_scenes_options scenes = {
            .output_dir = argv[2], .count = SCENES, .size_px = SCENE_PX, .condition = "canny"};
        cn_status s = cn_dataset_scenes(ctx, &scenes);
        if (s != CN_OK) return s;
    }
    cn_train_options options;
    cn_train_callbacks callbacks = {.progress = show_step};
    cn_train_options_default(&options);
    options.model = argv[1];
    options.train_data_dir = argv[2];
    options.output_dir = argv[3];
    options.max_train_steps = atoll(argv[4]);
    options.checkpointing_steps =
        options.max_train_steps; /* more steps later go on from the last */
    options.resolution = SCENE_PX;
    options.train_batch_size = 2;
    options.learning_rate = 1e-3;
    options.validation_steps = 0;
    options.resume_from_checkpoint = "latest";
    return cn_train(ctx, &options, &callbacks, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: train MODEL DATA OUT STEPS\n");
        return 2;
    }
    ctx = cn_ctx_create(0);
    if (!ctx) return 1;
    signal(SIGINT, stop);
    cn_status s = train(argv);
    if (s != CN_OK) fprintf(stderr, "\ntrain: %s\n", cn_error(ctx));
    cn_ctx_destroy(ctx);
    return s == CN_OK ? 0 : 1;
}
