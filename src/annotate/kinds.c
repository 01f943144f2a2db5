/* SPDX-License-Identifier: Apache-2.0 */
/* kinds.c - the table of kinds, and their options from text. */
#include "annotate/annotate.h"

#include "annotate/canny.h"
#include "annotate/hed.h"
#include "annotate/labels.h"
#include "annotate/lineart.h"
#include "annotate/midas.h"
#include "annotate/mlsd.h"
#include "annotate/pose/openpose.h"
#include "annotate/pidinet.h"
#include "annotate/pointwise.h"
#include "annotate/strokes.h"
#include "annotate/synthesis.h"
#include "annotate/uniformer.h"
#include "annotate/xdog.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cn_status run_none(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_image_copy(cn_session_ctx(s), in, out);
}

static cn_status run_invert(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_image_invert(cn_session_ctx(s), in, out);
}

/* A kind's options with their number. */
#define OPTIONS(list) .options = (list), .n_options = CN_COUNT(list)

static const cn_kind_option canny_options[] = {
    {"low", "gradients above this go on from an edge", CN_OPTION_NUMBER, 0, 2040, 100},
    {"high", "gradients above this start an edge", CN_OPTION_NUMBER, 0, 2040, 200},
    {"l2", "Euclidean length of the gradient instead of |dx| + |dy|", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_canny(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    return cn_canny(cn_session_ctx(s), in, v[0], v[1], v[2] != 0, out);
}

/* The paper's augmentation; ControlNet publishes no ranges, the app's sliders go from 1 to 255. */
static void draw_canny(cn_annotate_args *args, cn_rng *rng)
{
    const int64_t a = 1 + cn_rng_below(rng, 255), b = 1 + cn_rng_below(rng, 254);
    const int64_t other = b + (b >= a);
    args->values[0] = (double)CN_MIN(a, other);
    args->values[1] = (double)CN_MAX(a, other);
}

static const cn_kind_option mlsd_options[] = {
    {"value_threshold", "lines whose centre is less likely than this are dropped", CN_OPTION_NUMBER,
     0.01, 2, 0.1},
    {"distance_threshold", "so are lines that are shorter than this, in the network's cells",
     CN_OPTION_NUMBER, 0.01, 20, 0.1},
};

static cn_status run_mlsd(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    return cn_mlsd(s, in, (float)v[0], (float)v[1], out);
}

static const cn_kind_option hed_options[] = {
    {"safe", "three levels of strength only, so that nothing else of the picture shows through",
     CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_hed(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_hed(s, in, cn_session_args(s)->values[0] != 0, out);
}

static const cn_kind_option pidinet_options[] = {
    {"safe", "three levels of strength only, so that nothing else of the picture shows through",
     CN_OPTION_BOOL, 0, 1, 0},
    {"filter", "edges of a strength of a half or less are dropped, others white", CN_OPTION_BOOL, 0,
     1, 0},
};

static cn_status run_pidinet(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    return cn_pidinet(s, in, v[0] != 0, v[1] != 0, out);
}

static const cn_kind_option lineart_options[] = {
    {"dark_lines", "dark lines on white, as the network draws them", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_lineart(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_lineart(s, in, cn_session_args(s)->values[0] != 0, out);
}

static cn_status run_lineart_anime(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_anime_lineart(s, in, cn_session_args(s)->values[0] != 0, out);
}

static const cn_kind_option openpose_options[] = {
    {"body", "draw the body", CN_OPTION_BOOL, 0, 1, 1},
    {"hand", "find and draw hands", CN_OPTION_BOOL, 0, 1, 0},
    {"face", "find and draw faces", CN_OPTION_BOOL, 0, 1, 0},
    {"v10", "as ControlNet 1.0 drew for its model; without: as 1.1", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_openpose(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    const cn_openpose_options o = {.version = v[3] != 0 ? CN_POSE_V10 : CN_POSE_V11,
                                   .body = v[0] != 0,
                                   .hands = v[1] != 0,
                                   .faces = v[2] != 0};
    return cn_openpose(s, in, &o, out);
}

static const cn_kind_option normal_options[] = {
    {"bg_threshold", "where the depth, 0 far to 1 near, is below this there is no slope",
     CN_OPTION_NUMBER, 0, 1, 0.4},
    {"alpha", "how far normals lean towards the viewer", CN_OPTION_NUMBER, 0.1, 20, 2 * M_PI},
    {"bgr", "red and blue exchanged, as ControlNet 1.0's model wants it", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_normal(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    return cn_normal(s, in, v[1], v[0], v[2] != 0, out);
}

static const cn_kind_option scribble_options[] = {
    {"mask", "the drawing is white on black", CN_OPTION_BOOL, 0, 1, 0},
    {"dark", "the drawing is dark on light; without mask and dark that is seen from it",
     CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_scribble(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    if (v[0] != 0 && v[1] != 0)
        return cn_fail(cn_session_ctx(s), CN_EINVAL, "scribble: either mask or dark");
    if (v[0] == 0 && v[1] == 0 && cn_is_light_on_dark(in)) {
        cn_image *turned = NULL;
        CN_TRY(cn_image_invert(cn_session_ctx(s), in, &turned));
        cn_status status = cn_scribble(cn_session_ctx(s), turned, false, out);
        cn_image_destroy(turned);
        return status;
    }
    return cn_scribble(cn_session_ctx(s), in, v[0] != 0, out);
}

static const cn_kind_option threshold_options[] = {
    {"level", "what is lighter than this in red, green and blue is white", CN_OPTION_NUMBER, 0, 255,
     127},
};

static cn_status run_threshold(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_threshold(cn_session_ctx(s), in, cn_session_args(s)->values[0], out);
}

static const cn_kind_option xdog_options[] = {
    {"threshold", "how much darker than its surroundings a stroke is", CN_OPTION_NUMBER, 1, 64, 32},
};

static cn_status run_xdog(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_scribble_xdog(cn_session_ctx(s), in, cn_session_args(s)->values[0], out);
}

static const cn_kind_option synthesis_options[] = {
    {"low", "the edges' threshold is drawn between this", CN_OPTION_NUMBER, 0, 254, 40},
    {"high", "and this", CN_OPTION_NUMBER, 0, 254, 160},
    {"thin", "probability of non-maximum suppression", CN_OPTION_NUMBER, 0, 1, 0.5},
    {"share", "at most so much of the strokes is left out", CN_OPTION_NUMBER, 0, 1, 0.6},
    {"width", "lines are widened by up to so many pixels", CN_OPTION_INT, 0, 32, 3},
};

static cn_status run_synthesis(cn_session *s, const cn_image *in, cn_image **out)
{
    const cn_annotate_args *a = cn_session_args(s);
    const double *v = a->values;
    const cn_synthesis_rules rules = {CN_MIN(v[0], v[1]), CN_MAX(v[0], v[1]), v[2], v[3],
                                      (int)v[4]};
    return cn_scribble_synthesis(cn_session_ctx(s), in, &rules, a->seed, out);
}

static const cn_kind_option strokes_options[] = {
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

static cn_status run_strokes(cn_session *s, const cn_image *in, cn_image **out)
{
    return strokes_of(s, in, out);
}

/* Edges are brought to the condition's size before they are thinned, as in the reference. */
static cn_status finish_scribble(cn_session *s, cn_status status, cn_image *edges, cn_image **out)
{
    if (status == CN_OK) status = cn_session_fit(s, &edges);
    if (status == CN_OK) status = strokes_of(s, edges, out);
    cn_image_destroy(edges);
    return status;
}

static cn_status run_scribble_hed(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_image *edges = NULL;
    cn_status status = cn_hed(s, in, false, &edges);
    return finish_scribble(s, status, edges, out);
}

static cn_status run_scribble_pidinet(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_image *edges = NULL;
    cn_status status = cn_pidinet(s, in, false, false, &edges);
    return finish_scribble(s, status, edges, out);
}

static cn_status run_seg_ade(cn_session *s, const cn_image *in, cn_image **out)
{
    /* A resized label map would hold classes that are in between. */
    if (cn_session_args(s)->resolution || cn_session_args(s)->detect_resolution)
        return cn_fail(cn_session_ctx(s), CN_EINVAL,
                       "seg_ade takes label maps as they are: leave out the resolution");
    return cn_ade20k_colors(cn_session_ctx(s), in, out);
}

static const cn_kind_option coco_options[] = {
    {"skip_crowd", "groups drawn as one (iscrowd) are left out", CN_OPTION_BOOL, 0, 1, 0},
};

/* Of kinds whose conditions come from something else than a picture. */
static cn_status refuse_picture(cn_session *s, const cn_image *in, cn_image **out)
{
    const cn_kind *kind = cn_session_args(s)->kind;
    (void)in, (void)out;
    return cn_fail(cn_session_ctx(s), CN_EINVAL, "%s takes %s, not a photograph", kind->name,
                   cn_takes_name(kind->takes));
}

static cn_status run_normals(cn_ctx *ctx, const cn_annotate_args *args, const cn_npy *array,
                             const cn_npy *valid, cn_image **out)
{
    (void)args;
    return cn_normals_colors(ctx, array, valid, out);
}

static cn_status run_metric_depth(cn_ctx *ctx, const cn_annotate_args *args, const cn_npy *array,
                                  const cn_npy *valid, cn_image **out)
{
    (void)args;
    return cn_metric_depth_map(ctx, array, valid, out);
}

static const cn_kind_option metric_normal_options[] = {
    {"bg_threshold", "where the inverse depth, 0 far to 1 near, is below this there is no slope",
     CN_OPTION_NUMBER, 0, 1, 0.4},
    {"alpha", "how far normals lean towards the viewer", CN_OPTION_NUMBER, 0.1, 20, 2 * M_PI},
    {"reach", "inverse depth of the nearest point, in MiDaS's units", CN_OPTION_NUMBER, 1, 100000,
     1500},
};

static cn_status run_metric_normal(cn_ctx *ctx, const cn_annotate_args *args, const cn_npy *array,
                                   const cn_npy *valid, cn_image **out)
{
    const double *v = args->values;
    return cn_metric_normals(ctx, array, valid, v[2], v[1], v[0], out);
}

static const cn_kind kinds[] = {
    {.name = "none", .title = "the picture as it is", .run = run_none},
    {.name = "canny",
     .title = "Canny edges, white on black",
     OPTIONS(canny_options),
     .run = run_canny,
     .draw = draw_canny,
     .measure = CN_MEASURE_EDGES},
    {.name = "mlsd",
     .title = "straight lines (M-LSD), white on black",
     OPTIONS(mlsd_options),
     .run = run_mlsd,
     .networks = {{&cn_mlsd_large, 0}, {&cn_mlsd_tiny, 0}},
     .multiple = 16,
     .map_filter = CN_FILTER_NEAREST,
     .measure = CN_MEASURE_EDGES},
    {.name = "hed",
     .title = "soft edges (HED), white on black",
     OPTIONS(hed_options),
     .run = run_hed,
     .networks = {{&cn_hed_apache2, 0}, {&cn_hed_bsds500, 0}},
     .least = 16,
     .map_filter = CN_FILTER_LINEAR,
     .measure = CN_MEASURE_EDGES},
    {.name = "pidinet",
     .title = "soft edges (PiDiNet), white on black",
     OPTIONS(pidinet_options),
     .run = run_pidinet,
     .networks = {{&cn_pidinet_table5, 0}},
     .least = 8,
     .map_filter = CN_FILTER_LINEAR,
     .measure = CN_MEASURE_EDGES},
    {.name = "lineart",
     .title = "a line drawing of a photograph, white on black",
     OPTIONS(lineart_options),
     .run = run_lineart,
     .networks = {{&cn_lineart_fine, 0}},
     .multiple = 4,
     .least = 8,
     .map_filter = CN_FILTER_LINEAR,
     .measure = CN_MEASURE_EDGES},
    {.name = "lineart_coarse",
     .title = "a coarser line drawing of a photograph, white on black",
     OPTIONS(lineart_options),
     .run = run_lineart,
     .networks = {{&cn_lineart_coarse, 0}},
     .multiple = 4,
     .least = 8,
     .map_filter = CN_FILTER_LINEAR,
     .measure = CN_MEASURE_EDGES},
    {.name = "lineart_anime",
     .title = "a line drawing of an anime picture, white on black",
     OPTIONS(lineart_options),
     .run = run_lineart_anime,
     .networks = {{&cn_anime_network, 0}},
     .map_filter = CN_FILTER_LINEAR,
     .measure = CN_MEASURE_EDGES},
    {.name = "openpose",
     .title = "people as stick figures (OpenPose)",
     OPTIONS(openpose_options),
     .run = run_openpose,
     .networks = {{&cn_openpose_body, CN_OPENPOSE_BODY},
                  {&cn_openpose_hand, CN_OPENPOSE_HAND},
                  {&cn_openpose_face, CN_OPENPOSE_FACE}},
     .map_filter = CN_FILTER_NEAREST,
     .detect_px = 512,
     .measure = CN_MEASURE_POSE},
    {.name = "depth",
     .title = "depth (MiDaS), near is white",
     .run = cn_depth,
     .networks = {{&cn_midas, 0}},
     .multiple = 32,
     .map_filter = CN_FILTER_LINEAR,
     .detect_px = 384,
     .measure = CN_MEASURE_DEPTH},
    {.name = "normal",
     .title = "surface normals from depth (MiDaS)",
     OPTIONS(normal_options),
     .run = run_normal,
     .networks = {{&cn_midas, 0}},
     .multiple = 32,
     .map_filter = CN_FILTER_LINEAR,
     .detect_px = 384,
     .measure = CN_MEASURE_NORMALS},
    {.name = "seg",
     .title = "what is where, in ADE20K's colours (UniFormer)",
     .run = cn_seg,
     .networks = {{&cn_uniformer, 0}},
     .map_filter = CN_FILTER_NEAREST,
     .detect_px = 512,
     .measure = CN_MEASURE_CLASSES},
    {.name = "scribble",
     .title = "a user's drawing, dark on light or light on dark, as white on black",
     OPTIONS(scribble_options),
     .run = run_scribble},
    {.name = "strokes",
     .title = "a soft edge map (HED, PiDiNet), white on black, as a scribble",
     OPTIONS(strokes_options),
     .run = run_strokes},
    {.name = "scribble_hed",
     .title = "a scribble made from HED's edges, white on black",
     OPTIONS(strokes_options),
     .run = run_scribble_hed,
     .networks = {{&cn_hed_apache2, 0}, {&cn_hed_bsds500, 0}},
     .least = 16,
     .map_filter = CN_FILTER_LINEAR,
     .measure = CN_MEASURE_EDGES},
    {.name = "scribble_pidinet",
     .title = "a scribble made from PiDiNet's edges, white on black",
     OPTIONS(strokes_options),
     .run = run_scribble_pidinet,
     .networks = {{&cn_pidinet_table5, 0}},
     .least = 8,
     .map_filter = CN_FILTER_LINEAR,
     .measure = CN_MEASURE_EDGES},
    {.name = "threshold",
     .title = "white where a picture is light, black elsewhere",
     OPTIONS(threshold_options),
     .run = run_threshold,
     .measure = CN_MEASURE_EDGES},
    {.name = "scribble_xdog",
     .title = "a photograph as a scribble, by differences of Gaussians",
     OPTIONS(xdog_options),
     .run = run_xdog,
     .measure = CN_MEASURE_EDGES},
    {.name = "scribble_synthesis",
     .title = "a soft edge map as a scribble by chance, as the paper trains",
     OPTIONS(synthesis_options),
     .run = run_synthesis,
     .seeded = true},
    {.name = "seg_ade",
     .title = "an ADE20K label map (grey, 0 to 150) in the colours of its classes",
     .run = run_seg_ade,
     .takes = CN_TAKES_LABELS,
     .from_picture = "seg"},
    {.name = "seg_coco",
     .title = "COCO's polygons and run lengths in the colours of their categories",
     OPTIONS(coco_options),
     .run = refuse_picture,
     .takes = CN_TAKES_COCO},
    {.name = "normal_diode",
     .title = "DIODE's normals (_normal.npy) as red, green, blue",
     .run = refuse_picture,
     .run_array = run_normals,
     .takes = CN_TAKES_ARRAY,
     .suffix = "_normal.npy"},
    {.name = "depth_diode",
     .title = "depth in metres (_depth.npy) as a depth map, near is white",
     .run = refuse_picture,
     .run_array = run_metric_depth,
     .takes = CN_TAKES_ARRAY,
     .suffix = "_depth.npy",
     .from_picture = "depth"},
    {.name = "normal_from_depth",
     .title = "depth in metres (_depth.npy) as normals, as ControlNet 1.0 makes them from MiDaS's",
     OPTIONS(metric_normal_options),
     .run = refuse_picture,
     .run_array = run_metric_normal,
     .takes = CN_TAKES_ARRAY,
     .suffix = "_depth.npy",
     .from_picture = "normal"},
    {.name = "invert", .title = "dark and light exchanged", .run = run_invert},
};

/* As stable-diffusion-webui's ControlNet extension and diffusers' controlnet_aux call them. */
static const struct {
    const char *name, *stands_for;
} aliases[] = {
    {"m-lsd", "mlsd"},
    {"hough", "mlsd"},
    {"hed_safe", "hed safe=1"},
    {"softedge_hed", "hed"},
    {"softedge_hedsafe", "hed safe=1"},
    {"softedge_hed_safe", "hed safe=1"},
    {"softedge", "pidinet"},
    {"pidi", "pidinet"},
    {"pidinet_safe", "pidinet safe=1"},
    {"pidinet_sketch", "pidinet filter=1"},
    {"softedge_pidi", "pidinet"},
    {"softedge_pidinet", "pidinet"},
    {"softedge_pidisafe", "pidinet safe=1"},
    {"softedge_pidi_safe", "pidinet safe=1"},
    {"fake_scribble", "scribble_hed"},
    {"scribble_pidi", "scribble_pidinet"},
    {"pidinet_scribble", "scribble_pidinet"},
    {"lineart_realistic", "lineart"},
    {"openpose_hand", "openpose hand"},
    {"openpose_face", "openpose face"},
    {"openpose_faceonly", "openpose body=0 face"},
    {"openpose_full", "openpose hand face"},
    {"depth_midas", "depth"},
    {"midas", "depth"},
    {"normal_midas", "normal"},
    {"seg_ufade20k", "seg"},
    {"segmentation", "seg"},
    {"pose", "openpose"},
};

int cn_kind_count(void)
{
    return (int)CN_COUNT(kinds);
}

const cn_kind *cn_kind_at(int i)
{
    return i >= 0 && i < cn_kind_count() ? &kinds[i] : NULL;
}

/* Names match with '-' for '_'; the first n characters of `given` count. */
static bool same_name(const char *name, const char *given, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = given[i] == '_' ? '-' : given[i];
        if (!name[i] || (name[i] == '_' ? '-' : name[i]) != c) return false;
    }
    return name[n] == 0;
}

bool cn_kind_alias_at(int i, const char **name, const char **stands_for)
{
    if (i < 0 || i >= (int)CN_COUNT(aliases)) return false;
    *name = aliases[i].name;
    *stands_for = aliases[i].stands_for;
    return true;
}

/* A kind's own name of n characters. */
static const cn_kind *find_own(const char *name, size_t n)
{
    for (int i = 0; i < cn_kind_count(); i++)
        if (same_name(kinds[i].name, name, n)) return &kinds[i];
    return NULL;
}

/* What an alias stands for, NULL for a name that is none. */
static const char *find_alias(const char *name)
{
    for (size_t i = 0; i < CN_COUNT(aliases); i++)
        if (same_name(aliases[i].name, name, strlen(name))) return aliases[i].stands_for;
    return NULL;
}

const cn_kind *cn_kind_find(const char *name)
{
    const char *text = find_alias(name);
    return text ? find_own(text, strcspn(text, " ")) : find_own(name, strlen(name));
}

cn_status cn_kind_need(cn_ctx *ctx, const char *name, const cn_kind **out)
{
    const cn_kind *kind = cn_kind_find(name);
    if (kind) {
        *out = kind;
        return CN_OK;
    }
    cn_str names = {0};
    for (int i = 0; i < cn_kind_count(); i++)
        cn_str_addf(&names, "%s%s", i ? ", " : "", kinds[i].name);
    cn_status s = cn_fail(ctx, CN_EINVAL, "no annotator is called '%.64s': there are %s", name,
                          names.data ? names.data : "others");
    cn_str_free(&names);
    return s;
}

void cn_annotate_defaults(const cn_kind *kind, cn_annotate_args *args)
{
    *args = (cn_annotate_args){.kind = kind, .detect_resolution = kind->detect_px};
    for (int i = 0; i < kind->n_options; i++) args->values[i] = kind->options[i].otherwise;
}

static bool parse_bool(const char *text, double *out)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < CN_COUNT(words); i++)
        if (strcmp(text, words[i]) == 0) {
            *out = (double)(i % 2);
            return true;
        }
    return false;
}

static cn_status unknown_option(cn_ctx *ctx, const cn_kind *kind, const char *name, size_t n)
{
    cn_str names = {0};
    for (int i = 0; i < kind->n_options; i++)
        cn_str_addf(&names, "%s%s", i ? ", " : "", kind->options[i].name);
    cn_status s = cn_fail(ctx, CN_EINVAL, "%s has no option '%.*s': it has %s", kind->name,
                          (int)CN_MIN(n, 64), name, names.data ? names.data : "none");
    cn_str_free(&names);
    return s;
}

/* A name of n characters, so that both forms of setting share this; value NULL: the bare name. */
static cn_status set_option(cn_ctx *ctx, cn_annotate_args *args, const char *name, size_t n,
                            const char *value)
{
    const cn_kind *kind = args->kind;
    int i = 0;
    while (i < kind->n_options && !same_name(kind->options[i].name, name, n)) i++;
    if (i == kind->n_options) return unknown_option(ctx, kind, name, n);
    const cn_kind_option *o = &kind->options[i];
    double v = 0;
    if (o->type == CN_OPTION_BOOL) {
        if (!parse_bool(value ? value : "1", &v))
            return cn_fail(ctx, CN_EINVAL, "%s: %s=%.64s: must be 0 or 1", kind->name, o->name,
                           value);
        args->values[i] = v;
        return CN_OK;
    }
    bool whole = o->type == CN_OPTION_INT;
    if (!value)
        return cn_fail(ctx, CN_EINVAL, "%s: %s needs a value: %s=N with N from %g to %g",
                       kind->name, o->name, o->name, o->min, o->max);
    char *end;
    v = strtod(value, &end);
    if (end == value || *end || !(v >= o->min && v <= o->max) || (whole && v != rint(v)))
        return cn_fail(ctx, CN_EINVAL, "%s: %s=%.64s: must be a %snumber from %g to %g", kind->name,
                       o->name, value, whole ? "whole " : "", o->min, o->max);
    args->values[i] = v;
    return CN_OK;
}

cn_status cn_annotate_set(cn_ctx *ctx, cn_annotate_args *args, const char *name, const char *value)
{
    return set_option(ctx, args, name, strlen(name), value);
}

cn_status cn_annotate_parse(cn_ctx *ctx, cn_annotate_args *args, const char *text)
{
    size_t n = strcspn(text, "=");
    return set_option(ctx, args, text, n, text[n] ? text + n + 1 : NULL);
}

void cn_annotate_describe(const cn_annotate_args *args, cn_str *out)
{
    cn_str_adds(out, args->kind->name);
    for (int i = 0; i < args->kind->n_options; i++)
        cn_str_addf(out, " %s=%g", args->kind->options[i].name, args->values[i]);
}

const char *cn_takes_name(cn_takes takes)
{
    static const char *const names[] = {"pictures (PNG, JPEG, WebP)", "label maps (PNG)",
                                        ".npy arrays", "COCO's instances_*.json"};
    return names[takes];
}

/* The settings behind the first word of `text`. */
static cn_status parse_settings(cn_ctx *ctx, cn_annotate_args *args, const char *text)
{
    static const char between[] = " ,";
    char word[256];
    for (text += strcspn(text, between); *(text += strspn(text, between));) {
        const size_t n = strcspn(text, between);
        CN_TRY(cn_format(ctx, word, sizeof word, "%.*s", (int)n, text));
        CN_TRY(cn_annotate_parse(ctx, args, word));
        text += n;
    }
    return CN_OK;
}

cn_status cn_annotate_read(cn_ctx *ctx, const char *text, cn_annotate_args *args)
{
    char name[64];
    const cn_kind *kind = NULL;
    cn_annotate_args a;
    text += strspn(text, " ,");
    CN_TRY(cn_format(ctx, name, sizeof name, "%.*s", (int)strcspn(text, " ,"), text));
    CN_TRY(cn_kind_need(ctx, name, &kind));
    cn_annotate_defaults(kind, &a);
    if (find_alias(name)) CN_TRY(parse_settings(ctx, &a, find_alias(name)));
    CN_TRY(parse_settings(ctx, &a, text));
    *args = a;
    return CN_OK;
}
