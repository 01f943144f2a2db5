/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c - drawings annotated again and compared with the conditions they were asked to follow.
 *
 * An annotator's network is there only while drawings are compared: its weights are read anew at
 * each validation, so that no step of training has to share memory with it.
 */
#include "train/validate.h"

#include "annotate/network.h"
#include "eval/agreement.h"

#include <string.h>

static bool has_network(const cn_annotate_args *args)
{
    return args->kind && args->kind->networks[0].net;
}

/* Weights and plans that the run's backend will hold. */
static cn_status count_network(cn_trainer *t)
{
    cn_session *session = NULL;
    CN_TRY(cn_session_open(t->ctx, &t->annotate, t->be, &session));
    const cn_status s =
        cn_session_rehearse(session, t->o.resolution, t->o.resolution, &t->annotate_cost);
    cn_session_close(session);
    return s;
}

cn_status cn_trainer_choose_annotator(cn_trainer *t)
{
    const char *const *weights = t->o.validation_annotator_weights;
    const bool given = weights && *weights;
    bool told = false;
    if (!t->o.validation_steps) return CN_OK;
    CN_TRY(cn_condition_find(t->ctx, &t->o, &t->annotate, &told));
    t->annotator_told = told;
    if (given && !t->annotate.kind)
        return cn_fail(t->ctx, CN_EINVAL,
                       "--validation-annotator-model %s: which annotator takes it isn't known; "
                       "--validation-annotator KIND says it",
                       *weights);
    if (!has_network(&t->annotate) && !given) return CN_OK;
    if (!given && !t->o.validation_annotator) {
        cn_log(t->ctx, CN_LOG_INFO,
               "validation: drawings would be compared with their conditions by %s, whose network "
               "wants --validation-annotator-model (%s)",
               t->annotate.kind->name, t->annotate.kind->networks[0].net->file);
        t->annotate.kind = NULL;
        return CN_OK;
    }
    t->annotate.weights = weights;
    return count_network(t);
}

static cn_status compare(cn_validator *v, cn_session *session, int64_t i, const uint8_t *rgb,
                         cn_agreement *out)
{
    const int64_t bytes = 3 * v->width * v->height * i;
    const cn_image drawn = {v->width, v->height, (uint8_t *)(uintptr_t)rgb + bytes};
    const cn_image wanted = {v->width, v->height, v->condition + bytes};
    cn_image *found = NULL;
    CN_TRY(cn_session_annotate(session, &drawn, &found));
    const cn_status s = cn_measure_run(v->ctx, v->annotate.kind->measure, found, &wanted, out);
    cn_image_destroy(found);
    return s;
}

cn_status cn_validator_agreement(cn_validator *v, cn_trainer *t, const uint8_t *rgb,
                                 cn_agreement *out)
{
    cn_session *session = NULL;
    if (!v->annotate.kind) return CN_OK;
    CN_TRY(cn_session_open(v->ctx, &v->annotate, t->be, &session));
    cn_status s = CN_OK;
    for (int64_t i = 0; i < v->n && s == CN_OK; i++) {
        if (cn_cancelled(v->ctx)) s = cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
        if (s == CN_OK) s = compare(v, session, i, rgb, &out[i]);
        if (s == CN_OK && has_network(&v->annotate)) cn_trainer_tell(t, "comparing", i + 1, v->n);
    }
    cn_session_close(session);
    return s;
}
