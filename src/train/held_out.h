/* SPDX-License-Identifier: Apache-2.0 */
/* held_out.h - what a validation (eval/validate.h) asks of a run, and a run of its validation. */
#ifndef CN_TRAIN_HELD_OUT_H
#define CN_TRAIN_HELD_OUT_H

#include "diffuse/sampling.h"
#include "train/run_nets.h"

typedef struct cn_held_out cn_held_out;

/* Validation over the held-out pairs and the user's own conditions, whose caches are there. The
 * three parts and metrics outlive it. */
cn_status cn_held_out_create(const cn_run_setup *r, const cn_run_data *d, const cn_run_nets *n,
                             cn_metrics *metrics, cn_held_out **out) CN_CHECKED;
void cn_held_out_destroy(cn_held_out *h);
/* A validation at state->step, with the mean of the weights where one is kept; sets what state and
 * result say of it. */
cn_status cn_held_out_validate(cn_held_out *h, int64_t end_step, cn_train_state *state,
                               cn_train_result *result) CN_CHECKED;

/* --- what one takes ----------------------------------------------------------------------------
 */

/* How held-out loss is measured; gradients and loss aside as the step. */
cn_stepgraph_options cn_held_out_measure_options(const cn_run_setup *r, const cn_stepgraph *step);
/* How a held-out condition is drawn with these networks; control NULL: by the base alone. */
cn_draw_spec cn_held_out_draw_spec(const cn_run_setup *r, cn_params *unet, cn_params *control);
/* The VAE's decoder for drawings of the run's size, without its values (cn_base_load). Both are to
 * be destroyed, after a failure too. */
cn_status cn_held_out_decode_create(const cn_run_setup *r, cn_params **vae,
                                    cn_decode **out) CN_CHECKED;

#endif
