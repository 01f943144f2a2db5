/* bench_train.h - the training step as one of build/bench's works. */
#ifndef BENCH_TRAIN_H
#define BENCH_TRAIN_H

#include <stdint.h>

typedef struct bench_train_options {
    int64_t px, batch; /* 512, 1 */
    int threads;       /* 0: one per core */
    int runs;          /* timed steps, behind one that isn't timed */
    int small; /* a network of a few thousand weights instead of SD 1.5, to try the program */
} bench_train_options;

/* Times steps of a ControlNet on Stable Diffusion 1.5's shapes with seeded weights and latents and text
 * at hand: forward, backward and AdamW. One JSON line on stdout; the program's exit status. */
int bench_train(const bench_train_options *options);

#endif
