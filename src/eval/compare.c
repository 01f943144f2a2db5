/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c - drawings annotated again and compared with the conditions they were asked to follow.
 *
 * An annotator's network is there only while drawings are compared: its weights are read anew at
 * each validation, so that no step of training has to share memory with it.
 */
#include "eval/validate_internal.h"

#include "annotate/network.h"
#include "data/condition.h"
#include "eval/agreement.h"

#include <string.h>

static bool has_network(const cn_annotate_args *args)
{
    return args->kind && args->kind->networks[0].net;
}

/* Weights and plans that the run's backend will hold. */
static cn_status count_network(cn_ctx *ctx, cn_backend *be, int64_t side, cn_comparison *c)
{
    cn_session *session = NULL;
    CN_TRY(cn_session_open(ctx, &c->annotate, be, &session));
    const cn_status s = cn_session_rehearse(session, side, side, &c->cost);
    cn_session_close(session);
    return s;
}

cn_status cn_comparison_choose(cn_ctx *ctx, cn_backend *be, const cn_train_options *o,
                               cn_comparison *out)
{
    const char *const *weights = o->validation_annotator_weights;
    const bool has_weights = weights && *weights;
    *out = (cn_comparison){0};
    if (!o->validation_steps) return CN_OK;
    CN_TRY(cn_condition_find(ctx, o, &out->annotate, &out->settled));
    if (has_weights && !out->annotate.kind)
        return cn_fail(ctx, CN_EINVAL,
                       "--validation-annotator-model %s: which annotator takes it isn't known; "
                       "--validation-annotator KIND says it",
                       *weights);
    if (!has_network(&out->annotate) && !has_weights) return CN_OK;
    if (!has_weights && !o->validation_annotator) {
        cn_log(ctx, CN_LOG_INFO,
               "validation: drawings would be compared with their conditions by %s, whose network "
               "wants --validation-annotator-model (%s)",
               out->annotate.kind->name, out->annotate.kind->networks[0].net->file);
        out->annotate.kind = NULL;
        return CN_OK;
    }
    out->annotate.weights = weights;
    return count_network(ctx, be, o->resolution, out);
}

static cn_status compare(cn_validator *v, cn_session *session, int64_t i, const uint8_t *rgb,
                         cn_agreement *out)
{
    const int64_t bytes = 3 * v->o.width * v->o.height * i;
    const cn_image drawn = {v->o.width, v->o.height, (uint8_t *)(uintptr_t)rgb + bytes};
    const cn_image wanted = {v->o.width, v->o.height, v->condition + bytes};
    cn_image *found = NULL;
    CN_TRY(cn_session_annotate(session, &drawn, &found));
    const cn_status s = cn_measure_run(v->ctx, v->annotate.kind->measure, found, &wanted, out);
    cn_image_destroy(found);
    return s;
}

cn_status cn_validator_agreement(cn_validator *v, const uint8_t *rgb, cn_agreement *out)
{
    const cn_validation_calls *calls = &v->o.calls;
    const int64_t n = v->o.n_held;
    cn_session *session = NULL;
    if (!v->annotate.kind) return CN_OK;
    CN_TRY(cn_session_open(v->ctx, &v->annotate, v->o.be, &session));
    cn_status s = CN_OK;
    for (int64_t i = 0; i < n && s == CN_OK; i++) {
        if (cn_cancelled(v->ctx)) s = cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
        if (s == CN_OK) s = compare(v, session, i, rgb, &out[i]);
        if (s == CN_OK && has_network(&v->annotate))
            calls->progress(calls->user, "comparing", i + 1, n);
    }
    cn_session_close(session);
    return s;
}
