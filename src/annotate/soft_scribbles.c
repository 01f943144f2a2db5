/* SPDX-License-Identifier: Apache-2.0 */
/* soft_scribbles.c - the kinds that make a scribble of soft edges: of a map that is there, of HED's
 * and of PiDiNet's. */
#include "annotate/hed.h"
#include "annotate/kinds.h"
#include "annotate/pidinet.h"
#include "annotate/strokes.h"

static const cn_kind_option options[] = {
    {"threshold", "edges weaker than this after the first blur are dropped", CN_OPTION_NUMBER, 0,
     255, 127},
    {"sigma", "blur in pixels before thinning", CN_OPTION_NUMBER, 0.1, 64, 3},
    {"width", "blur in pixels that widens the thinned lines", CN_OPTION_NUMBER, 0.1, 64, 3},
    {"level", "what is brighter than this after it is a stroke", CN_OPTION_NUMBER, 0, 254, 4},
};

static cn_status strokes_of(cn_session *s, const cn_image *edges, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    cn_stroke_rules rules = {v[0], v[1], v[2], v[3]};
    return cn_strokes(cn_session_ctx(s), edges, &rules, out);
}

const cn_kind cn_kind_strokes = {
    .name = "strokes",
    .title = "a soft edge map (HED, PiDiNet), white on black, as a scribble",
    CN_KIND_OPTIONS(options),
    .run = strokes_of,
    .mirror = CN_MIRROR_PLAIN};

/* Edges are brought to the condition's size before they are thinned, as in the reference. */
static cn_status finish(cn_session *s, cn_status status, cn_image *edges, cn_image **out)
{
    if (status == CN_OK) status = cn_session_fit(s, &edges);
    if (status == CN_OK) status = strokes_of(s, edges, out);
    cn_image_destroy(edges);
    return status;
}

static cn_status run_hed(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_image *edges = NULL;
    cn_status status = cn_hed(s, in, false, &edges);
    return finish(s, status, edges, out);
}

const cn_kind cn_kind_scribble_hed = {.name = "scribble_hed",
                                      .title = "a scribble made from HED's edges, white on black",
                                      .aliases = {{"fake_scribble", "scribble_hed"}},
                                      CN_KIND_OPTIONS(options),
                                      .run = run_hed,
                                      .networks = {{&cn_hed_apache2, 0}, {&cn_hed_bsds500, 0}},
                                      .least = 16,
                                      .map_filter = CN_FILTER_LINEAR,
                                      .measure = CN_MEASURE_EDGES,
                                      .mirror = CN_MIRROR_PLAIN};

static cn_status run_pidinet(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_image *edges = NULL;
    cn_status status = cn_pidinet(s, in, false, false, &edges);
    return finish(s, status, edges, out);
}

const cn_kind cn_kind_scribble_pidinet = {
    .name = "scribble_pidinet",
    .title = "a scribble made from PiDiNet's edges, white on black",
    .aliases = {{"scribble_pidi", "scribble_pidinet"}, {"pidinet_scribble", "scribble_pidinet"}},
    CN_KIND_OPTIONS(options),
    .run = run_pidinet,
    .networks = {{&cn_pidinet_table5, 0}},
    .least = 8,
    .map_filter = CN_FILTER_LINEAR,
    .measure = CN_MEASURE_EDGES,
    .mirror = CN_MIRROR_PLAIN};
