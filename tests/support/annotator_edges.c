/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_edges.c - the cases of the networks that draw soft edges and lines: HED, PiDiNet, line
 * art. */
#include "annotator_check.h"

#include "image/blur.h"
#include "annotate/hed.h"
#include "annotate/lineart.h"
#include "annotate/pidinet.h"
#include "annotate/strokes.h"

#include <string.h>

enum { LEVEL = 1 };
/* Where a value near a threshold falls on its other side. */
#define FLIPPED 1e-3

/* A network's check: its file, a picture, what is compared where. */
typedef struct network_case {
    const cn_network *net;
    const cn_feed *feed;
    const char *input;       /* key of the picture that the network itself takes */
    const char *output;      /* tensor of out[0]; NULL: not stored */
    const char *const *taps; /* scopes, NULL at the end */
    const char *const *keys; /* the taps' tensors */
    double tolerance;
} network_case;

/* Tensors of taps that a file leaves out aren't looked at. */
static void check_network(cn_ctx *ctx, const char *root, const json_t *c, const char *weights,
                          const network_case *n, const char *folder, tally *t)
{
    const char *name = cn_json_str(c, "raw", "?");
    cn_image *in = NULL;
    cn_tensors *raw = NULL;
    case_net net = {0};
    float *x = NULL;
    if (!json_object_get(c, "raw")) return;
    cn_status s = case_picture(ctx, root, c, n->input, &in);
    if (s == CN_OK) s = case_tensors(ctx, root, c, "raw", &raw);
    if (s == CN_OK) s = case_net_open(ctx, n->net, weights, in->height, in->width, n->taps, &net);
    if (s == CN_OK && !(x = cn_feed_image(ctx, in, n->feed))) s = CN_ENOMEM;
    if (s == CN_OK) s = case_net_run(&net, x);
    if (s != CN_OK) case_result(t, folder, name, false, cn_error(ctx));
    if (s == CN_OK && n->output)
        case_net_expect(&net, net.out[0], raw, n->output, n->tolerance, false, folder, name, t);
    for (int i = 0; s == CN_OK && n->taps && n->taps[i]; i++)
        if (cn_tensors_find(raw, n->keys[i]))
            case_net_expect(&net, net.out[net.n + i], raw, n->keys[i], n->tolerance, false, folder,
                            name, t);
    cn_free(x);
    case_net_close(&net);
    cn_tensors_close(raw);
    cn_image_destroy(in);
}

/* The whole annotator over the picture under "input" against the picture under `key`. */
static void check_run(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                      const char *settings, const char *weights, int level, double share,
                      const char *folder, tally *t)
{
    cn_image *in = NULL, *made = NULL;
    if (!json_object_get(c, key)) return;
    cn_status s = case_picture(ctx, root, c, "input", &in);
    if (s == CN_OK) s = case_annotate(ctx, settings, weights, in, &made);
    if (s == CN_OK)
        case_compare_within(ctx, root, c, key, folder, made, level, share, t);
    else
        case_result(t, folder, cn_json_str(c, key, "?"), false, cn_error(ctx));
    cn_image_destroy(in);
    cn_image_destroy(made);
}

/* --- HED -------------------------------------------------------------------------------------- */

bool check_hed_network(cn_ctx *ctx, const char *root, const json_t *c, tally *t)
{
    static const char *const taps[] = {"block1", "block2", "block3", "block4", "block5", NULL};
    static const char *const keys[] = {"side1", "side2", "side3", "side4", "side5"};
    static const network_case apache2 = {
        &cn_hed_apache2, &cn_hed_apache2_feed, "input", NULL, taps, keys, 1e-4};
    static const network_case bsds500 = {
        &cn_hed_bsds500, &cn_hed_bsds500_feed, "input", "edge_prob", NULL, NULL, 1e-4};
    const char *variant = cn_json_str(c, "variant", "?");
    const bool first = strcmp(variant, "bsds500") == 0;
    case_weights w = {0};
    if (!first && strcmp(variant, "apache2") != 0) return false;
    if (case_weights_open(ctx, root, c, &w) != CN_OK) {
        case_result(t, "hed", variant, false, cn_error(ctx));
        return true;
    }
    check_network(ctx, root, c, w.path, first ? &bsds500 : &apache2, "hed", t);
    check_run(ctx, root, c, "edge", "hed", w.path, LEVEL, 0, "hed", t);
    check_run(ctx, root, c, "edge_safe", "softedge_hedsafe", w.path, LEVEL, FLIPPED, "hed", t);
    case_weights_close(&w);
    return true;
}

/* --- PiDiNet ---------------------------------------------------------------------------------- */

/* The stages of a scribble, from the stored edges: exact. */
static void check_stages(cn_ctx *ctx, const char *root, const json_t *c, tally *t)
{
    static const cn_stroke_rules rules = {127, 3, 3, 4};
    cn_image *edges = NULL, *thin = NULL, *made = NULL;
    uint8_t *plane = NULL;
    cn_status s = case_picture(ctx, root, c, "edge", &edges);
    if (s == CN_OK) s = cn_image_create(ctx, edges->width, edges->height, &thin);
    const int64_t w = s == CN_OK ? edges->width : 0, h = s == CN_OK ? edges->height : 0;
    if (s == CN_OK && !(plane = cn_alloc_array(ctx, (size_t)(w * h), 3))) s = CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < w * h; i++) plane[i] = edges->rgb[3 * i];
    if (s == CN_OK)
        s = cn_edge_nms(ctx, plane, w, h, rules.nms_threshold, rules.nms_sigma, plane + w * h);
    for (int64_t i = 0; s == CN_OK && i < w * h; i++)
        cn_put_gray(thin->rgb + 3 * i, plane[w * h + i]);
    if (s == CN_OK) case_compare(ctx, root, c, "nms", "pidinet", thin, t);
    if (s == CN_OK) s = cn_gaussian_blur_u8(ctx, plane + w * h, w, h, 1, rules.blur_sigma, plane);
    for (int64_t i = 0; s == CN_OK && i < w * h; i++) cn_put_gray(thin->rgb + 3 * i, plane[i]);
    if (s == CN_OK) case_compare(ctx, root, c, "nms_blurred", "pidinet", thin, t);
    if (s == CN_OK) s = cn_strokes(ctx, edges, &rules, &made);
    if (s == CN_OK) case_compare(ctx, root, c, "scribble", "pidinet", made, t);
    if (s != CN_OK) case_result(t, "pidinet", cn_json_str(c, "edge", "?"), false, cn_error(ctx));
    cn_free(plane);
    cn_image_destroy(edges);
    cn_image_destroy(thin);
    cn_image_destroy(made);
}

void check_pidinet_folder(cn_ctx *ctx, const char *root, tally *t)
{
    static const char *const sides[] = {"side1", "side2", "side3", "side4", NULL};
    static const network_case network = {
        &cn_pidinet_table5, &cn_pidinet_feed, "input", "edge", sides, sides, 2e-5};
    json_t *json = case_list(ctx, root, "pidinet", t);
    size_t i;
    const json_t *c;
    json_array_foreach(json, i, c)
    {
        char checkpoint[CASE_PATH];
        case_weights w = {0};
        if (case_weights_open(ctx, root, c, &w) != CN_OK) {
            case_result(t, "pidinet", "weights", false, cn_error(ctx));
            continue;
        }
        check_network(ctx, root, c, w.path, &network, "pidinet", t);
        if (json_object_get(c, "checkpoint") &&
            case_path(ctx, root, c, "checkpoint", checkpoint) == CN_OK)
            check_run(ctx, root, c, "edge", "pidinet", checkpoint, LEVEL, 0, "pidinet", t);
        check_run(ctx, root, c, "edge", "pidinet", w.path, LEVEL, 0, "pidinet", t);
        check_run(ctx, root, c, "edge_safe", "softedge_pidisafe", w.path, LEVEL, FLIPPED, "pidinet",
                  t);
        check_run(ctx, root, c, "scribble", "scribble_pidinet", w.path, 0, FLIPPED, "pidinet", t);
        if (json_object_get(c, "nms")) check_stages(ctx, root, c, t);
        case_weights_close(&w);
    }
    json_decref(json);
}

/* --- line art --------------------------------------------------------------------------------- */

static void check_drawing(cn_ctx *ctx, const char *root, const char *folder, const network_case *n,
                          const char *settings, tally *t)
{
    json_t *c = case_list(ctx, root, folder, t);
    case_weights w = {0};
    if (!c) return;
    if (case_weights_open(ctx, root, c, &w) == CN_OK) {
        check_network(ctx, root, c, w.path, n, folder, t);
        check_run(ctx, root, c, "detector_output", settings, w.path, LEVEL, 0, folder, t);
    } else {
        case_result(t, folder, "weights", false, cn_error(ctx));
    }
    case_weights_close(&w);
    json_decref(c);
}

void check_lineart_folder(cn_ctx *ctx, const char *root, tally *t)
{
    static const char *const taps[] = {"model0", "model1", "model2", "model3", NULL};
    static const char *const keys[] = {"model0_ch0_3", "model1_ch0_3", "model2_ch0_3",
                                       "model3_ch0_3"};
    static const network_case network = {
        &cn_lineart_fine, &cn_lineart_feed, "input", "out", taps, keys, 1e-4};
    check_drawing(ctx, root, "lineart", &network, "lineart dark_lines=1", t);
}

void check_lineart_anime_folder(cn_ctx *ctx, const char *root, tally *t)
{
    static const network_case network = {
        &cn_anime_network, &cn_anime_feed, "net_input", "out", NULL, NULL, 1e-4};
    check_drawing(ctx, root, "lineart_anime", &network, "lineart_anime dark_lines=1", t);
}
