/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_check.h - what the checks of annotators share: a case's files, pictures compared,
 * networks run. */
#ifndef TESTS_ANNOTATOR_CHECK_H
#define TESTS_ANNOTATOR_CHECK_H

#include "annotator_cases.h"

#include "annotate/network.h"
#include "graph/plan.h"
#include "io/json.h"

enum { CASE_PATH = 4096, CASE_TAPS = 8 };

/* Counts a case; of a failing one prints why. */
void case_result(tally *t, const char *folder, const char *name, bool ok, const char *why);
/* root/FOLDER/cases.json; NULL after a failed case. json_decref it. */
json_t *case_list(cn_ctx *ctx, const char *root, const char *folder, tally *t);
/* The file that `c` names under `key`. */
cn_status case_path(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                    char path[CASE_PATH]) CN_CHECKED;
cn_status case_picture(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                       cn_image **out) CN_CHECKED;
cn_status case_json(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                    json_t **out) CN_CHECKED;
cn_status case_tensors(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                       cn_tensors **out) CN_CHECKED;
/* The picture under `key` against `made`: every byte within `level`, but for a share of the
 * pixels. */
void case_compare_within(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                         const char *folder, const cn_image *made, int level, double share,
                         tally *t);
/* Every byte equal. */
void case_compare(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                  const char *folder, const cn_image *made, tally *t);

/* --- networks --------------------------------------------------------------------------------- */

/* A weight file: the one under "weights", or one written from the "manifest" into a temporary
 * file. */
typedef struct case_weights {
    char path[CASE_PATH];
    bool temporary;
} case_weights;
cn_status case_weights_open(cn_ctx *ctx, const char *root, const json_t *c,
                            case_weights *out) CN_CHECKED;
/* Removes a temporary file. */
void case_weights_close(case_weights *w);

/* A network by itself, so that values inside it can be looked at. */
typedef struct case_net {
    cn_ctx *ctx;
    const cn_network *net;
    cn_backend *backend;
    cn_graph *graph;
    cn_params *params;
    cn_plan *plan;
    cn_node *x, *out[CN_NETWORK_OUTPUTS + CASE_TAPS]; /* its outputs, then the taps */
    int n;                                            /* of the outputs; taps follow */
} case_net;
/* taps: scopes (cn_scope_return) whose results are kept too; NULL at the end; or NULL. */
cn_status case_net_open(cn_ctx *ctx, const cn_network *net, const char *weights, int64_t H,
                        int64_t W, const char *const *taps, case_net *out) CN_CHECKED;
void case_net_close(case_net *n);
/* x: [H,W,channels]. */
cn_status case_net_run(case_net *n, const float *x) CN_CHECKED;
/* y against the file's tensor `key` [1,C,H,W] (or [H,W] or [1,H,W] for C = 1), of which y may have
 * more channels: the largest difference must be within tolerance, or with of_std within tolerance
 * times what is wanted's standard deviation. */
void case_net_expect(case_net *n, const cn_node *y, const cn_tensors *file, const char *key,
                     double tolerance, bool of_std, const char *folder, const char *name, tally *t);

/* An annotator over a picture, as users call it. settings: "hed safe=1". */
cn_status case_annotate(cn_ctx *ctx, const char *settings, const char *weights, const cn_image *in,
                        cn_image **out) CN_CHECKED;

/* --- annotator_edges.c ------------------------------------------------------------------------ */

/* A case of the folder hed that is a network's; false for another. */
bool check_hed_network(cn_ctx *ctx, const char *root, const json_t *c, tally *t);

#endif
