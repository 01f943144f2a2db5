/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_run.h - for tests of whole runs: unit.h with a tiny base model and scenes to train on. */
#ifndef TEST_TINY_RUN_H
#define TEST_TINY_RUN_H

#include "../tiny_base.h"
#include "unit.h"

extern char model[128], scenes[128]; /* set by tiny_open */

/* unit_open; then a base model with 8 channels on its first level is in root/model, 16 scenes in
 * root/scenes. */
int tiny_open(int threads);
/* Batches of 2 of these scenes at TINY_PX, learning rate 1e-3, nothing validated, no
 * checkpoints. */
cn_train_options tiny_options(const char *output);
/* A key of the lines of dir/metrics.jsonl that have it, `most` of them; how many. */
int tiny_metrics(const char *dir, const char *key, double *out, int most);
/* Trains seven steps at once, and the same in two parts, the second from the checkpoint after step
 * 4, and fails unless both save the same bytes. `whole` gets the first's folder; the options' own
 * output folder isn't used. */
void tiny_resumes(const char *name, cn_train_options o, char whole[256]);

#endif
