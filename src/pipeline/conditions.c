/* SPDX-License-Identifier: Apache-2.0 */
/* conditions.c - see conditions_internal.h. */
#include "pipeline/conditions_internal.h"

#include "image/resize.h"

#include "base/option.h"
#include "annotate/network.h"
#include "annotate/pointwise.h"
#include "device/device.h"
#include "io/npy.h"

#include <string.h>
#include <sys/stat.h>

enum { TEXT_BYTES = 512, MAX_WEIGHTS = 16 };

/* --- opening ---------------------------------------------------------------------------------- */

static cn_status read_links(cn_ctx *ctx, const char *text, cn_condition *c)
{
    char words[TEXT_BYTES];
    for (;; text++) {
        const size_t n = strcspn(text, "|");
        CN_TRY(cn_format(ctx, words, sizeof words, "%.*s", (int)n, text));
        if (c->n == CN_ANNOTATE_LINKS)
            return cn_fail(ctx, CN_EINVAL, "more than %d kinds behind each other",
                           CN_ANNOTATE_LINKS);
        CN_TRY(cn_annotate_read(ctx, words, &c->links[c->n]));
        const cn_kind *kind = c->links[c->n].kind;
        if (c->n && kind->takes != CN_TAKES_PICTURE)
            return cn_fail(ctx, CN_EINVAL, "%s can't stand behind another kind: it takes %s",
                           kind->name, cn_takes_name(kind->takes));
        c->n++;
        text += n;
        if (!*text) return CN_OK;
    }
}

#define FIELD(member) CN_FIELD(cn_annotate_folder_options, member)

const cn_option cn_annotate_option_rows[] = {
    {.help = "Options"},
    {"resolution", 0, "bring the shorter side to PX first, both to multiples of 64",
     FIELD(annotate.resolution), 1, CN_IMAGE_MAX_SIDE, .arg = "PX", .unset = "as it is"},
    {"detect-resolution", 0,
     "what the annotator sees is brought to PX, the condition keeps its size; 0: it sees that",
     FIELD(annotate.detect_resolution), -1, CN_IMAGE_MAX_SIDE, .arg = "PX",
     .unset = "384 for depth and normals, 512 for poses and segmentation, else 0"},
    {"fit", 0, "of pixel-perfect; inner: the picture fills the drawing, outer: it lies in it",
     CN_FIELD_AS(CN_FIELD_EITHER, cn_annotate_folder_options, fit_outer),
     .words = (const char *const[]){"inner", "outer", NULL}, .preset = "inner"},
    {"recursive", 'r', "folders in the folder too", FIELD(recursive)},
    {"random-thresholds", 0,
     "canny: thresholds drawn for each picture, as for training; OUT/annotate.jsonl has them",
     FIELD(random_thresholds)},
    {"seed", 0, "of what is drawn at random, with the picture's name", FIELD(seed), .preset = "0"},
    CN_DEVICE_ROW(cn_annotate_folder_options, annotate.device),
    {0},
};

static cn_status check_rules(cn_ctx *ctx, const cn_condition *c)
{
    const cn_annotate_folder_options *o = &c->o;
    const cn_kind *first = c->links[0].kind;
    const bool sized = o->annotate.resolution || o->annotate.detect_resolution > 0 || o->fit_width;
    CN_TRY(cn_options_check(ctx, cn_annotate_option_rows, o));
    if (o->random_thresholds && !first->randomize)
        return cn_fail(ctx, CN_EINVAL, "%s has no thresholds that are drawn at random; canny has",
                       first->name);
    if (sized && first->takes != CN_TAKES_PICTURE)
        return cn_fail(ctx, CN_EINVAL,
                       "%s takes %s as they are: leave out the resolution (resized labels would "
                       "hold what is in between)",
                       first->name, cn_takes_name(first->takes));
    if (o->fit_width && o->annotate.resolution)
        return cn_fail(ctx, CN_EINVAL, "a resolution and pixel perfect, which computes it");
    if (!o->fit_width != !o->fit_height || o->fit_width < 0 || o->fit_height < 0)
        return cn_fail(ctx, CN_EINVAL, "pixel perfect for %lld x %lld px: both must be positive",
                       (long long)o->fit_width, (long long)o->fit_height);
    return CN_OK;
}

/* A file's size tells one set of weights from another; a folder's name must do. */
static void describe_weights(const char *const *weights, cn_str *out)
{
    struct stat st;
    for (; weights && *weights; weights++) {
        cn_str_addf(out, " weights=%s", *weights);
        if (stat(*weights, &st) == 0 && S_ISREG(st.st_mode))
            cn_str_addf(out, " (%lld bytes)", (long long)st.st_size);
    }
}

static cn_status describe(cn_ctx *ctx, cn_condition *c)
{
    const cn_annotate_folder_options *o = &c->o;
    bool seeded = o->random_thresholds, networks = false;
    for (int i = 0; i < c->n; i++) {
        if (i) cn_str_adds(&c->settings, " | ");
        cn_annotate_describe(&c->links[i], &c->settings);
        seeded |= c->links[i].kind->seeded;
        networks |= c->links[i].kind->networks[0].net != NULL;
    }
    if (o->annotate.resolution)
        cn_str_addf(&c->settings, " resolution=%lld", (long long)o->annotate.resolution);
    if (o->annotate.detect_resolution)
        cn_str_addf(&c->settings, " detect-resolution=%lld",
                    (long long)o->annotate.detect_resolution);
    if (o->fit_width)
        cn_str_addf(&c->settings, " pixel-perfect=%lldx%lld%s", (long long)o->fit_width,
                    (long long)o->fit_height, o->fit_outer ? " fit=outer" : "");
    if (o->random_thresholds) cn_str_adds(&c->settings, " random-thresholds");
    if (seeded) cn_str_addf(&c->settings, " seed=%llu", (unsigned long long)o->seed);
    if (networks) describe_weights(o->annotate.weights, &c->settings);
    return c->settings.failed ? cn_fail(ctx, CN_ENOMEM, "no memory for the settings in words")
                              : CN_OK;
}

static cn_status fits(cn_ctx *ctx, const cn_kind *kind, const char *path, bool *out)
{
    const char *prefix;
    cn_tensors *file = NULL;
    *out = cn_dir_exists(path);
    if (*out) return CN_OK;
    CN_TRY(cn_tensors_open(ctx, path, &file));
    for (int k = 0; k < CN_KIND_NETWORKS && kind->networks[k].net; k++)
        *out |= cn_network_is_in(kind->networks[k].net, file, &prefix);
    cn_tensors_close(file);
    return CN_OK;
}

/* Of the weights of all kinds those of this one; all of them where none fits, for the message that
 * follows. */
static cn_status choose_weights(cn_ctx *ctx, const cn_kind *kind, const char *const *all,
                                const char *out[MAX_WEIGHTS + 1])
{
    int n = 0, given = 0;
    for (; all && all[given]; given++) {
        bool fit = false;
        if (given == MAX_WEIGHTS)
            return cn_fail(ctx, CN_EINVAL, "more than %d files of weights", MAX_WEIGHTS);
        CN_TRY(fits(ctx, kind, all[given], &fit));
        if (fit) out[n++] = all[given];
    }
    for (int i = 0; !n && i < given; i++) out[i] = all[i];
    out[n ? n : given] = NULL;
    return CN_OK;
}

cn_status cn_condition_refuse_device(cn_ctx *ctx, const cn_kind *kind, const char *device)
{
    if (cn_device_is_cpu(device)) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "%s has no network: there is nothing to compute on --device %s",
                   kind->name, device);
}

static cn_status open_networks(cn_ctx *ctx, cn_condition *c)
{
    for (int i = 0; i < c->n; i++) {
        const char *weights[MAX_WEIGHTS + 1] = {NULL};
        cn_annotate_args args = c->links[i];
        if (!args.kind->networks[0].net) continue;
        CN_TRY(choose_weights(ctx, args.kind, c->o.annotate.weights, weights));
        args.weights = weights;
        if (!c->backend) CN_TRY(cn_backend_create(ctx, c->o.annotate.device, &c->backend));
        CN_TRY(cn_session_open(ctx, &args, c->backend, &c->sessions[i]));
    }
    if (c->backend) return CN_OK;
    return cn_condition_refuse_device(ctx, c->links[0].kind, c->o.annotate.device);
}

static cn_status open_condition(cn_ctx *ctx, const char *text, cn_condition *c)
{
    CN_TRY(read_links(ctx, text, c));
    const cn_annotate_options *a = &c->o.annotate;
    for (const char *const *s = a->settings; s && *s; s++)
        CN_TRY(cn_annotate_parse(ctx, &c->links[0], *s));
    CN_TRY(check_rules(ctx, c));
    CN_TRY(describe(ctx, c));
    c->links[0].resolution = a->resolution;
    if (a->detect_resolution) c->links[0].detect_resolution = CN_MAX(a->detect_resolution, 0);
    if (c->o.fit_width) c->links[0].detect_resolution = 0; /* it sees the computed one */
    return open_networks(ctx, c);
}

cn_status cn_condition_open(cn_ctx *ctx, const char *text, const cn_annotate_folder_options *o,
                            cn_condition *out)
{
    cn_condition c = {.o = *o};
    cn_status s = open_condition(ctx, text, &c);
    if (s == CN_OK)
        *out = c;
    else
        cn_condition_close(&c);
    return s;
}

void cn_condition_close(cn_condition *c)
{
    for (int i = 0; i < c->n; i++) cn_session_close(c->sessions[i]);
    if (c->backend) c->backend->destroy(c->backend);
    cn_str_free(&c->settings);
    *c = (cn_condition){0};
}

bool cn_condition_side_by_side(const cn_condition *c)
{
    return !c->backend;
}

/* --- one picture ------------------------------------------------------------------------------ */

int64_t cn_pixel_perfect_resolution(int64_t width, int64_t height, int64_t fit_width,
                                    int64_t fit_height, bool outer)
{
    const double k0 = (double)fit_height / (double)height, k1 = (double)fit_width / (double)width;
    const double k = (k0 < k1) == outer ? k0 : k1;
    return __builtin_llrint(k * (double)CN_MIN(width, height));
}

/* The generator's seed is 32 bits wide. */
static uint64_t mixed_seed(uint64_t seed, const char *name)
{
    const uint64_t both[2] = {seed, cn_hash64(name, strlen(name))};
    const uint64_t h = cn_hash64(both, sizeof both);
    return (h ^ h >> 32) & UINT32_MAX;
}

/* The mask of DIR/X_normal.npy is X_normal_mask.npy or DIODE's X_depth_mask.npy; *out NULL: there
 * is none. */
static cn_status load_mask(cn_ctx *ctx, const cn_kind *kind, const char *path, cn_npy **out)
{
    const size_t n = strlen(path), m = strlen(kind->suffix), dot = strlen(".npy");
    const char *const endings[] = {"_mask.npy", "_depth_mask.npy"};
    const size_t stems[] = {n - dot, n > m && strcmp(path + n - m, kind->suffix) == 0 ? n - m : 0};
    char mask[CN_PATH_BYTES];
    *out = NULL;
    for (int i = 0; i < 2; i++) {
        if (!stems[i]) continue;
        CN_TRY(cn_format(ctx, mask, sizeof mask, "%.*s%s", (int)stems[i], path, endings[i]));
        if (cn_file_exists(mask)) return cn_npy_load(ctx, mask, out);
    }
    return CN_OK;
}

static cn_status load_array(cn_ctx *ctx, const cn_annotate_args *args, const char *path,
                            cn_image **out)
{
    cn_npy *array = NULL, *mask = NULL;
    const size_t n = strlen(path);
    if (n < 4 || strcmp(path + n - 4, ".npy") != 0)
        return cn_fail(ctx, CN_EINVAL, "%s: %s takes %s", path, args->kind->name,
                       cn_takes_name(args->kind->takes));
    cn_status s = cn_npy_load(ctx, path, &array);
    if (s == CN_OK) s = load_mask(ctx, args->kind, path, &mask);
    if (s == CN_OK) {
        s = args->kind->run_array(ctx, args, array, mask, out);
        if (s != CN_OK) s = cn_fail_prefix(ctx, s, "%s", path);
    }
    cn_npy_free(array);
    cn_npy_free(mask);
    return s;
}

static cn_status run_link(const cn_condition *c, cn_ctx *ctx, int i, const cn_annotate_args *args,
                          const cn_image *in, cn_image **out)
{
    if (!c->sessions[i]) return cn_annotate(ctx, args, in, out);
    cn_session_set_resolution(c->sessions[i], args->resolution);
    return cn_session_annotate(c->sessions[i], in, out);
}

static json_t *number(double v)
{
    return v == __builtin_rint(v) ? json_integer((json_int_t)v) : json_real(v);
}

static void draw(const cn_condition *c, const char *name, int i, cn_annotate_args *args,
                 json_t *note)
{
    const cn_kind *kind = args->kind;
    args->seed = mixed_seed(c->o.seed, name);
    if (i || !c->o.random_thresholds) return;
    cn_rng r;
    cn_rng_seed(&r, args->seed);
    kind->randomize(args, &r);
    for (int k = 0; k < kind->n_options; k++)
        if (args->values[k] != c->links[i].values[k])
            json_object_set_new(note, kind->options[k].name, number(args->values[k]));
}

/* The kinds from number `from` on; takes *image over and leaves the result there. */
static cn_status run_links(const cn_condition *c, cn_ctx *ctx, const char *name, int from,
                           json_t *note, cn_image **image)
{
    for (int i = from; i < c->n; i++) {
        cn_image *made = NULL;
        cn_annotate_args args = c->links[i];
        draw(c, name, i, &args, note);
        if (i == 0 && c->o.fit_width)
            args.resolution = cn_pixel_perfect_resolution(
                (*image)->width, (*image)->height, c->o.fit_width, c->o.fit_height, c->o.fit_outer);
        CN_TRY(run_link(c, ctx, i, &args, *image, &made));
        cn_image_destroy(*image);
        *image = made;
    }
    return CN_OK;
}

cn_status cn_condition_match(cn_ctx *ctx, int64_t width, int64_t height, bool labelled,
                             cn_image **condition)
{
    const cn_filter filter = labelled ? CN_FILTER_NEAREST : CN_FILTER_LINEAR;
    cn_image *sized = NULL;
    if ((*condition)->width == width && (*condition)->height == height) return CN_OK;
    CN_TRY(cn_image_resize(ctx, *condition, width, height, filter, &sized));
    cn_image_destroy(*condition);
    *condition = sized;
    return CN_OK;
}

cn_status cn_condition_make(const cn_condition *c, cn_ctx *ctx, const cn_condition_input *in,
                            json_t *note, cn_image **out)
{
    cn_image *image = NULL;
    cn_status s;
    int from = 0;
    if (in->coco) {
        s = cn_coco_colors(ctx, in->coco, in->picture, c->links[0].values[0] == 0, &image);
        from = 1;
    } else if (in->image) {
        s = cn_image_copy(ctx, in->image, &image);
    } else if (c->links[0].kind->takes == CN_TAKES_ARRAY) {
        s = load_array(ctx, &c->links[0], in->path, &image);
        from = 1;
    } else {
        s = cn_image_load(ctx, in->path, &image);
    }
    if (s == CN_OK) {
        s = run_links(c, ctx, in->name, from, note, &image);
        if (s != CN_OK && in->path) s = cn_fail_prefix(ctx, s, "%s", in->path);
    }
    if (s == CN_OK)
        *out = image;
    else
        cn_image_destroy(image);
    return s;
}
