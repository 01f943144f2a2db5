/* SPDX-License-Identifier: Apache-2.0 */
/* prepare_folder.c - photographs, or a data set's labelled pictures, to a folder of pairs.
 *
 *   OUT/target/...            the pictures
 *   OUT/source/...            their conditions; with several kinds OUT/source/KIND/...
 *   OUT/annotate*.jsonl       what was made with which settings, and what chance drew
 *   OUT/prompt.json           the pairs (layout imagefolder: metadata.jsonl)
 *   OUT/prepare.txt           what all of it was made with: a run with other settings is refused
 *
 * Each kind is a run of its own over all pictures (bulk.h), resumed by itself. The list of pairs
 * comes last and names what is there.
 */
#include "pipeline/prepare_internal.h"

#include "base/lock.h"
#include "base/option.h"
#include "annotate/bulk.h"
#include "io/listing.h"
#include "io/settings.h"
#include "data/captions.h"
#include "pipeline/pair_list_internal.h"
#include "pipeline/picture_labels_internal.h"
#include "pipeline/samples_internal.h"
#include "pipeline/sources_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONDITIONS = CN_SAMPLE_CONDITIONS, FOLDER_BYTES = 128 };

typedef struct prepare {
    cn_ctx *ctx;
    const cn_prepare_options *o;
    char photos[CN_PATH_BYTES];
    cn_listing listing;
    int64_t n;
    uint8_t *pictures; /* [n] states of the targets */
    const char *stage; /* for progress */
    cn_dir_lock *lock;
    cn_str settings; /* of all kinds */
    cn_prepare_result counts;
    /* the kind at hand */
    cn_condition condition;
    cn_labels labels;
    const cn_bulk_item *items;
    /* all kinds */
    char folders[MAX_CONDITIONS][FOLDER_BYTES]; /* below OUT */
    uint8_t *states[MAX_CONDITIONS];            /* [n] */
    int n_conditions;
} prepare;

/* --- where things are ------------------------------------------------------------------------- */

static cn_status open_condition(prepare *p, int k)
{
    const cn_annotate_folder_options o = {
        .annotate = {.weights = p->o->weights, .detect_resolution = p->o->detect_resolution},
        .random_thresholds = p->o->random_thresholds,
        .seed = p->o->seed};
    CN_TRY(cn_condition_open(p->ctx, p->o->conditions[k], &o, &p->condition));
    return cn_labels_find(p->ctx, p->condition.links[0].kind, p->photos, p->o->labels, &p->labels);
}

static void close_condition(prepare *p)
{
    cn_labels_close(&p->labels);
    cn_condition_close(&p->condition);
}

static cn_status list_photos(prepare *p)
{
    const cn_listing_rules rules = {
        .endings = cn_picture_endings, .recursive = p->o->recursive, .except = p->o->output_dir};
    if (!realpath(p->o->sources[0], p->photos))
        return cn_fail(p->ctx, CN_EIO, "%s: can't read the folder: %s", p->o->sources[0],
                       strerror(errno));
    CN_TRY(cn_listing_read(p->ctx, p->photos, &rules, &p->listing));
    p->n = p->listing.n;
    if (p->n) return CN_OK;
    return cn_fail(p->ctx, CN_EINVAL, "%s: no pictures (PNG, JPEG, WebP, ...) in it%s", p->photos,
                   rules.recursive ? "" : " (folders in it are read with --recursive)");
}

/* --- runs over all pictures ------------------------------------------------------------------- */

static void show_progress(void *user, int64_t done, int64_t total)
{
    const prepare *p = user;
    if (p->o->progress) p->o->progress(p->o->user, p->stage, done, total);
}

static void show_problem(void *user, const char *text)
{
    const prepare *p = user;
    if (p->o->problem) p->o->problem(p->o->user, text);
}

/* Items that write FOLDER/NAME, with the ending .png when `png`. */
static cn_status make_items(prepare *p, const char *folder, bool png, cn_bulk_item **out)
{
    char in[CN_PATH_BYTES], to[CN_PATH_BYTES];
    cn_status s = CN_OK;
    cn_bulk_item *items = cn_alloc0(p->ctx, (size_t)p->n * sizeof *items);
    if (!items) return CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < p->n; i++) {
        const char *name = p->listing.names[i];
        const int stem = (int)(png ? cn_stem_length(name) : strlen(name));
        s = cn_format(p->ctx, in, sizeof in, "%s/%s", p->photos, name);
        if (s == CN_OK)
            s = cn_format(p->ctx, to, sizeof to, "%s/%.*s%s", folder, stem, name,
                          png ? ".png" : "");
        if (s == CN_OK) s = cn_bulk_item_set(p->ctx, &items[i], in, to);
    }
    if (s == CN_OK)
        *out = items;
    else
        cn_bulk_items_free(items, p->n);
    return s;
}

static cn_status run_all(prepare *p, cn_bulk *b, const char *folder, bool png, uint8_t *states,
                         cn_bulk_result *r)
{
    cn_bulk_item *items = NULL;
    CN_TRY(make_items(p, folder, png, &items));
    p->items = b->items = items;
    b->dir = p->o->output_dir;
    b->n = p->n;
    b->user = b->told = p;
    b->progress = show_progress;
    b->problem = show_problem;
    cn_status s = cn_bulk_run(p->ctx, b, states, r);
    cn_bulk_items_free(items, p->n);
    p->items = NULL;
    return s;
}

/* --- the pictures ----------------------------------------------------------------------------- */

/* The picture as the pair has it: the shorter side brought down to the resolution, proportions
 * kept. */
static cn_status load_picture(const prepare *p, cn_ctx *ctx, const char *path, cn_image **out)
{
    cn_image *image = NULL, *small = NULL;
    CN_TRY(cn_image_load(ctx, path, &image));
    const int64_t w = image->width, h = image->height, px = p->o->resolution;
    cn_status s = CN_OK;
    if (px && CN_MIN(w, h) > px) {
        const double k = (double)px / (double)CN_MIN(w, h);
        s = cn_image_resize(ctx, image, __builtin_llrint((double)w * k),
                            __builtin_llrint((double)h * k), CN_FILTER_AREA, &small);
        cn_image_destroy(image);
        image = small;
    }
    if (s == CN_OK) *out = image;
    return s;
}

static cn_status make_picture(void *user, cn_ctx *ctx, int64_t i, json_t *note, cn_image **out)
{
    const prepare *p = user;
    (void)note;
    return load_picture(p, ctx, p->items[i].in, out);
}

static cn_status make_pictures(prepare *p)
{
    char settings[64] = "pictures";
    cn_bulk_result r;
    memset(p->pictures, CN_BULK_KEPT, (size_t)p->n);
    if (p->o->refer && !p->o->resolution) return CN_OK;
    if (p->o->resolution)
        snprintf(settings, sizeof settings, "pictures resolution=%lld",
                 (long long)p->o->resolution);
    cn_bulk b = {.record = "pictures.jsonl",
                 .settings = settings,
                 .together = true,
                 .make = p->o->resolution ? make_picture : NULL};
    p->stage = "pictures";
    return run_all(p, &b, "target", p->o->resolution != 0, p->pictures, &r);
}

/* --- conditions ------------------------------------------------------------------------------- */

static cn_status make_condition(void *user, cn_ctx *ctx, int64_t i, json_t *note, cn_image **out)
{
    const prepare *p = user;
    char name[CN_PATH_BYTES], path[CN_PATH_BYTES];
    const char *photo = p->listing.names[i];
    const bool labelled = p->condition.links[0].kind->takes != CN_TAKES_PICTURE;
    cn_image *picture = NULL, *made = NULL;
    if (p->pictures[i] == CN_BULK_FAILED)
        return cn_fail(ctx, CN_EFORMAT, "%s: the picture itself failed", photo);
    CN_TRY(cn_format(ctx, name, sizeof name, "%.*s", (int)cn_stem_length(photo), photo));
    CN_TRY(load_picture(p, ctx, p->items[i].in, &picture));
    cn_condition_input in = {.name = name};
    cn_status s = CN_OK;
    if (labelled)
        s = cn_labels_input(ctx, &p->labels, p->condition.links[0].kind, photo, path, &in);
    else
        in.image = picture;
    if (s == CN_OK) s = cn_condition_make(&p->condition, ctx, &in, note, &made);
    if (s == CN_OK) s = cn_condition_match(ctx, picture->width, picture->height, labelled, &made);
    cn_image_destroy(picture);
    if (s == CN_OK)
        *out = made;
    else
        cn_image_destroy(made);
    return s;
}

/* "source" of a single kind; "source/canny", and of a second canny "source/canny-2". */
static cn_status name_folder(prepare *p, int k, bool several, char record[FOLDER_BYTES])
{
    const char *kind = p->condition.links[0].kind->name;
    char *folder = p->folders[k];
    int same = 1;
    CN_TRY(cn_format(p->ctx, folder, FOLDER_BYTES, several ? "source/%s" : "source", kind));
    for (int i = 0; i < k;)
        if (strcmp(p->folders[i++], folder) == 0) {
            CN_TRY(cn_format(p->ctx, folder, FOLDER_BYTES, "source/%s-%d", kind, ++same));
            i = 0;
        }
    return cn_format(p->ctx, record, FOLDER_BYTES, "annotate%s%s.jsonl", several ? "-" : "",
                     several ? folder + strlen("source/") : "");
}

/* What the pictures depend on besides the kind's own settings. */
static cn_status describe(prepare *p, cn_str *out)
{
    cn_str_adds(out, p->condition.settings.data);
    if (p->labels.path[0]) cn_str_addf(out, " labels=%s", p->labels.path);
    if (p->o->resolution) cn_str_addf(out, " of resolution=%lld", (long long)p->o->resolution);
    return out->failed ? cn_fail(p->ctx, CN_ENOMEM, "no memory for a run's settings") : CN_OK;
}

static cn_status make_conditions(prepare *p, int k, bool several)
{
    char record[FOLDER_BYTES];
    cn_bulk_result r = {0};
    cn_str settings = {0};
    cn_status s = open_condition(p, k);
    if (s == CN_OK) s = cn_labels_open(p->ctx, p->condition.links[0].kind, &p->labels);
    if (s == CN_OK) s = name_folder(p, k, several, record);
    if (s == CN_OK) s = describe(p, &settings);
    if (s == CN_OK) {
        cn_bulk b = {.record = record,
                     .settings = settings.data,
                     .together = cn_condition_side_by_side(&p->condition),
                     .make = make_condition};
        p->stage = p->condition.links[0].kind->name;
        s = run_all(p, &b, p->folders[k], true, p->states[k], &r);
    }
    p->counts.made += r.made;
    p->counts.kept += r.kept;
    p->counts.failed += r.failed;
    cn_str_free(&settings);
    close_condition(p);
    return s;
}

/* --- the list of pairs ------------------------------------------------------------------------ */

static cn_status target_name(const prepare *p, int64_t i, char out[CN_PATH_BYTES])
{
    const char *name = p->listing.names[i];
    if (p->o->resolution)
        return cn_format(p->ctx, out, CN_PATH_BYTES, "target/%.*s.png", (int)cn_stem_length(name),
                         name);
    return p->o->refer ? cn_format(p->ctx, out, CN_PATH_BYTES, "%s/%s", p->photos, name)
                       : cn_format(p->ctx, out, CN_PATH_BYTES, "target/%s", name);
}

/* The lines of one picture: every kind that it has, with every caption that is wanted. */
static cn_status write_picture(prepare *p, const cn_captions *captions, cn_pair_list *list,
                               int64_t i)
{
    const char *name = p->listing.names[i];
    char condition[CN_PATH_BYTES], target[CN_PATH_BYTES];
    const int64_t texts = p->o->all_captions ? cn_captions_count(captions, name) : 1;
    CN_TRY(target_name(p, i, target));
    for (int64_t t = 0; t < texts; t++) {
        char *text = NULL;
        bool found = false;
        CN_TRY(cn_captions_get(p->ctx, captions, name, t, &text, &found));
        cn_status s = CN_OK;
        const int64_t before = p->counts.pairs;
        for (int k = 0; s == CN_OK && k < p->n_conditions; k++) {
            const uint8_t state = p->states[k][i];
            if (state != CN_BULK_MADE && state != CN_BULK_KEPT) continue;
            s = cn_format(p->ctx, condition, sizeof condition, "%s/%.*s.png", p->folders[k],
                          (int)cn_stem_length(name), name);
            if (s == CN_OK) s = cn_pair_list_put(p->ctx, list, condition, target, text);
            p->counts.pairs += s == CN_OK;
        }
        p->counts.without_caption += !found && p->counts.pairs > before;
        cn_free(text);
        CN_TRY(s);
    }
    return CN_OK;
}

static cn_status write_list(prepare *p)
{
    char coco[CN_PATH_BYTES];
    cn_captions *captions = NULL;
    cn_pair_list *list = NULL;
    CN_TRY(cn_labels_find_coco(p->ctx, p->photos, "captions", coco));
    const char *from = p->o->captions ? p->o->captions : coco[0] ? coco : NULL;
    CN_TRY(cn_captions_open(p->ctx, p->photos, from, p->o->caption, &captions));
    cn_status s = cn_pair_list_open(p->ctx, p->o->output_dir, p->o->layout, &list);
    for (int64_t i = 0; s == CN_OK && i < p->n; i++) s = write_picture(p, captions, list, i);
    if (s == CN_OK)
        s = cn_pair_list_commit(p->ctx, list);
    else
        cn_pair_list_abort(list);
    cn_captions_close(captions);
    return s;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Weights, labels and options are checked before a picture is copied. What they are in words is
 * what the folder is made with; captions aren't part of it, as the list of pairs is written anew.
 */
static cn_status check_conditions(prepare *p)
{
    bool networks = false;
    for (int k = 0; k < p->n_conditions; k++) {
        cn_status s = open_condition(p, k);
        networks |= s == CN_OK && !cn_condition_side_by_side(&p->condition);
        if (s == CN_OK && k) cn_str_adds(&p->settings, "; ");
        if (s == CN_OK) s = describe(p, &p->settings);
        close_condition(p);
        CN_TRY(s);
    }
    if (!networks && p->o->weights && *p->o->weights)
        return cn_fail(p->ctx, CN_EINVAL, "none of the conditions has a network that takes %s",
                       *p->o->weights);
    cn_str_addf(&p->settings, "; seed=%llu%s", (unsigned long long)p->o->seed,
                p->o->refer ? " no-copy" : "");
    return p->settings.failed ? cn_fail(p->ctx, CN_ENOMEM, "no memory for a run's settings")
                              : CN_OK;
}

static cn_status run(prepare *p)
{
    char path[CN_PATH_BYTES];
    while (p->o->conditions[p->n_conditions]) p->n_conditions++;
    CN_TRY(cn_pair_list_check(p->ctx, p->o->output_dir, p->o->layout));
    CN_TRY(list_photos(p));
    p->pictures = cn_alloc(p->ctx, (size_t)p->n);
    if (!p->pictures) return CN_ENOMEM;
    for (int k = 0; k < p->n_conditions; k++)
        if (!(p->states[k] = cn_alloc(p->ctx, (size_t)p->n))) return CN_ENOMEM;
    p->counts.pictures = p->n;
    CN_TRY(check_conditions(p));
    CN_TRY(cn_dir_lock_take(p->ctx, p->o->output_dir, &p->lock));
    CN_TRY(cn_format(p->ctx, path, sizeof path, "%s/" CN_PREPARE_SETTINGS, p->o->output_dir));
    CN_TRY(cn_settings_keep(p->ctx, path, p->settings.data));
    CN_TRY(make_pictures(p));
    for (int k = 0; k < p->n_conditions; k++) CN_TRY(make_conditions(p, k, p->n_conditions > 1));
    return write_list(p);
}

cn_status cn_prepare_folder(cn_ctx *ctx, const cn_prepare_options *o, cn_prepare_result *r)
{
    prepare p = {.ctx = ctx, .o = o};
    cn_status s = run(&p);
    for (int k = 0; k < p.n_conditions; k++) cn_free(p.states[k]);
    cn_free(p.pictures);
    cn_listing_free(&p.listing);
    cn_str_free(&p.settings);
    cn_dir_lock_drop(p.lock);
    *r = p.counts;
    if (s != CN_OK || !p.counts.failed) return s;
    return cn_fail(ctx, CN_EFORMAT, "%lld conditions of %lld pictures failed; %lld pairs are there",
                   (long long)p.counts.failed, (long long)p.counts.pictures,
                   (long long)p.counts.pairs);
}
