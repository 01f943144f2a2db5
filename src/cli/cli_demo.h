/* SPDX-License-Identifier: Apache-2.0 */
/* cli_demo.h - what the demo's files share: cli_demo.c (options, training), cli_demo_moments.c
 * (drawings while it trains), cli_demo_draw.c (drawings behind it), cli_demo_judge.c (whether
 * control is above chance), cli_demo_report.c (report.html, summary.json, the sheets).
 */
#ifndef CN_CLI_DEMO_H
#define CN_CLI_DEMO_H

#include "cli/cli.h"

/* Canny's thresholds, half the usual: the small base draws softer edges than a photograph has. */
#define DEMO_LOW  "low=50"
#define DEMO_HIGH "high=100"

/* In fewer steps than AdamW (docs/training.md). */
#define DEMO_OPTIMIZER "Muon"

/* The last part of training, in which the learning rate falls. */
#define DEMO_DECAY 0.3

enum {
    DEMO_PX = 128,    /* pictures, as the small base model draws them */
    DEMO_HELD = 16,   /* scenes that training never sees, measured */
    DEMO_SHOWN = 6,   /* of them in the report */
    DEMO_CHECKED = 8, /* of them drawn at each validation */
    DEMO_EVERY = 50,  /* steps between validations */
    DEMO_PROMPTS = 2, /* on the scribble, and on the photograph */
    DEMO_MOST = DEMO_HELD + 2 * DEMO_PROMPTS,
    DEMO_FOLLOWED = 3, /* of the drawings at validations, shown step by step */
    DEMO_MOMENTS = 9,  /* such steps shown, evenly spread */
    DEMO_SAMPLING_STEPS = 20
};

typedef struct demo_drawing {
    cn_image *condition, *with, *without;
    cn_image *original; /* the scene, the scribble or the photograph */
    char prompt[256];
    double agreement_with, agreement_without;
} demo_drawing;

/* The same scenes drawn at one validation after the other, from the same noise and words. */
typedef struct demo_moments {
    int64_t *steps; /* of all validations */
    int n_steps;
    int64_t shown[DEMO_MOMENTS];
    int n_shown;
    cn_image *drawn[DEMO_FOLLOWED][DEMO_MOMENTS];
    cn_image *condition[DEMO_FOLLOWED], *without[DEMO_FOLLOWED], *original[DEMO_FOLLOWED];
} demo_moments;

typedef struct demo {
    /* options */
    const char *model, *output_dir, *photo, *photo_prompt, *scribble;
    int64_t max_steps; /* 0: as many as the time allows */
    int64_t pairs, batch;
    int threads;
    double minutes, learning_rate, guidance_scale;
    uint64_t seed;
    /* folders and files in output_dir */
    char scenes_dir[CN_PATH_BYTES], held_dir[CN_PATH_BYTES], controlnet_dir[CN_PATH_BYTES];
    /* the run */
    cn_ctx *ctx;
    cli_progress progress;
    cn_image *scribble_image, *photo_image; /* photo NULL: none */
    double begun_s, train_begun_s, shown_s;
    bool line_open;
    double step_seconds;
    cn_train_result result;
    demo_moments moments;
    cn_status moments_status;         /* of remembering them */
    demo_drawing drawings[DEMO_MOST]; /* held-out scenes, scribble, photograph */
    int n_held, n_scribble, n_photo;
    double agreement_with, agreement_without; /* means over the held-out scenes */
    double p_value;                           /* see demo_judge */
} demo;

/* --- cli_demo_moments.c ----------------------------------------------------------------------- */

/* Remembers that a validation drew. */
cn_status demo_moments_add(demo *d, int64_t step);
/* Reads what the validations drew: the first, the last, and evenly spread ones between them. */
cn_status demo_moments_load(demo *d);
void demo_moments_destroy(demo_moments *m);

/* --- cli_demo_draw.c -------------------------------------------------------------------------- */

/* The middle square of a picture, averaged down (or repeated up) to px x px. */
cn_status demo_square(cn_ctx *ctx, const cn_image *in, int64_t px, cn_image **out);
/* Draws everything with and without control and measures the agreement. */
cn_status demo_draw(demo *d);
void demo_drawings_destroy(demo *d);

/* --- cli_demo_judge.c ------------------------------------------------------------------------- */

/* Control counts as above chance where luck alone would do as well less often than this. */
#define DEMO_CHANCE 0.01

/* Means over the held-out scenes, and how likely a gain as large as theirs is if control changed
 * nothing: of all ways to call each scene's two drawings "with" and "without", the share whose
 * mean gain is as large (Fisher's exact randomization test for pairs, one-sided). */
void demo_judge(demo *d);
bool demo_above_chance(const demo *d);

/* --- cli_demo_report.c ------------------------------------------------------------------------ */

/* All files; CLI_DONE, or CLI_FAILED after a message. */
int demo_write(demo *d);

#endif
