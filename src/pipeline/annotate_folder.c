/* SPDX-License-Identifier: Apache-2.0 */
/* annotate_folder.c - controlnet.h's cn_annotate_folder: a picture, a folder of them or a COCO file
 * to conditions. */
#include "pipeline/conditions_internal.h"

#include "base/lock.h"
#include "annotate/bulk.h"
#include "io/json_text.h"
#include "io/listing.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char record_name[] = "annotate.jsonl";

typedef struct job {
    cn_ctx *ctx;
    cn_condition condition;
    const char *in, *out;
    cn_listing listing;
    cn_coco *coco;
    cn_bulk_item *items;
    int64_t n;
} job;

/* --- what there is to do ---------------------------------------------------------------------- */

static bool ends_with(const char *text, size_t n, const char *ending)
{
    const size_t m = strlen(ending);
    return n > m && strcasecmp(text + n - m, ending) == 0;
}

/* Files of what the kind takes. Of arrays those that are named as the data set names them, DIODE's
 * X_normal.npy say, else all but masks. */
static cn_status list_folder(job *j)
{
    const cn_kind *kind = j->condition.links[0].kind;
    const bool arrays = kind->takes == CN_TAKES_ARRAY;
    const char *named[] = {kind->suffix, NULL}, *any[] = {".npy", NULL};
    cn_listing_rules rules = {.endings = arrays ? named : cn_picture_endings,
                              .recursive = j->condition.o.recursive,
                              .except = j->out};
    CN_TRY(cn_listing_read(j->ctx, j->in, &rules, &j->listing));
    if (arrays && !j->listing.n) {
        cn_listing_free(&j->listing);
        rules.endings = any;
        CN_TRY(cn_listing_read(j->ctx, j->in, &rules, &j->listing));
        int64_t kept = 0;
        for (int64_t i = 0; i < j->listing.n; i++)
            if (!ends_with(j->listing.names[i], strlen(j->listing.names[i]), "_mask.npy"))
                j->listing.names[kept++] = j->listing.names[i];
        j->listing.n = kept;
    }
    j->n = j->listing.n;
    if (j->n) return CN_OK;
    return cn_fail(j->ctx, CN_EINVAL, "%s: no %s in it%s", j->in, cn_takes_name(kind->takes),
                   rules.recursive ? "" : " (folders in it are read with --recursive)");
}

/* "a/b.jpg" -> "a/b.png"; DIODE's suffix goes too, so that conditions are named as their
 * pictures. */
static cn_status output_name(job *j, const char *name, char out[CN_PATH_BYTES])
{
    const char *suffix = j->condition.links[0].kind->suffix;
    size_t n = cn_stem_length(name);
    if (suffix && ends_with(name, strlen(name), suffix)) n = strlen(name) - strlen(suffix);
    return cn_format(j->ctx, out, CN_PATH_BYTES, "%.*s.png", (int)n, name);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static cn_status make_items(job *j)
{
    char in[CN_PATH_BYTES], out[CN_PATH_BYTES];
    j->items = cn_alloc0(j->ctx, (size_t)j->n * sizeof *j->items);
    if (!j->items) return CN_ENOMEM;
    for (int64_t i = 0; i < j->n; i++) {
        const char *name = j->coco ? base_name(cn_coco_file_name(j->coco, i)) : j->listing.names[i];
        CN_TRY(output_name(j, name, out));
        if (j->coco)
            CN_TRY(cn_format(j->ctx, in, sizeof in, "%s", j->in));
        else
            CN_TRY(cn_format(j->ctx, in, sizeof in, "%s/%s", j->in, name));
        CN_TRY(cn_bulk_item_set(j->ctx, &j->items[i], in, out));
    }
    return CN_OK;
}

/* --- doing it --------------------------------------------------------------------------------- */

static cn_status make(void *user, cn_ctx *ctx, int64_t i, json_t *note, cn_image **out)
{
    const job *j = user;
    char name[CN_PATH_BYTES];
    const char *png = j->items[i].out;
    CN_TRY(cn_format(ctx, name, sizeof name, "%.*s", (int)cn_stem_length(png), png));
    const cn_condition_input in = {
        .path = j->coco ? NULL : j->items[i].in, .coco = j->coco, .picture = i, .name = name};
    return cn_condition_make(&j->condition, ctx, &in, note, out);
}

static cn_status run_folder(job *j, cn_annotate_result *r)
{
    const cn_annotate_folder_options *o = &j->condition.o;
    cn_bulk_result done = {0};
    cn_dir_lock *lock = NULL;
    const cn_bulk b = {.dir = j->out,
                       .record = record_name,
                       .settings = j->condition.settings.data,
                       .items = j->items,
                       .n = j->n,
                       .together = cn_condition_side_by_side(&j->condition),
                       .make = make,
                       .user = j,
                       .progress = o->progress,
                       .problem = o->problem,
                       .told = o->user};
    cn_status s = cn_dir_lock_take(j->ctx, j->out, &lock);
    if (s == CN_OK) s = cn_bulk_run(j->ctx, &b, NULL, &done);
    cn_dir_lock_drop(lock);
    *r = (cn_annotate_result){j->n, done.made, done.kept, done.failed};
    if (s != CN_OK || !done.failed) return s;
    return cn_fail(j->ctx, CN_EFORMAT, "%lld of %lld pictures failed", (long long)done.failed,
                   (long long)j->n);
}

static cn_status run_one(job *j, cn_annotate_result *r)
{
    char name[CN_PATH_BYTES];
    const char *base = base_name(j->in);
    cn_image *image = NULL;
    json_t *note = json_object();
    cn_status s = note ? CN_OK : CN_ENOMEM;
    if (s == CN_OK)
        s = cn_format(j->ctx, name, sizeof name, "%.*s", (int)cn_stem_length(base), base);
    if (s == CN_OK) {
        const cn_condition_input in = {.path = j->in, .name = name};
        s = cn_condition_make(&j->condition, j->ctx, &in, note, &image);
    }
    if (s == CN_OK) s = cn_image_save_png(j->ctx, j->out, image, NULL);
    if (s == CN_OK && json_object_size(note)) {
        char *text = cn_json_text(note, JSON_COMPACT);
        if (text) cn_log(j->ctx, CN_LOG_INFO, "drawn at random: %s", text);
        free(text);
    }
    json_decref(note);
    cn_image_destroy(image);
    *r = (cn_annotate_result){1, s == CN_OK, 0, s != CN_OK};
    return s;
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static cn_status run(job *j, cn_annotate_result *r)
{
    if (j->condition.links[0].kind->takes == CN_TAKES_COCO) {
        CN_TRY(cn_coco_open(j->ctx, j->in, NULL, &j->coco));
        j->n = cn_coco_count(j->coco);
    } else if (cn_dir_exists(j->in)) {
        if (same_folder(j->in, j->out))
            return cn_fail(j->ctx, CN_EINVAL,
                           "%s: the conditions would be written over the pictures; another folder "
                           "is expected",
                           j->out);
        CN_TRY(list_folder(j));
    } else {
        return run_one(j, r);
    }
    CN_TRY(make_items(j));
    return run_folder(j, r);
}

cn_status cn_annotate_folder(cn_ctx *ctx, const char *kind,
                             const cn_annotate_folder_options *options, const char *in,
                             const char *out, cn_annotate_result *result)
{
    static const cn_annotate_folder_options none;
    job j = {.ctx = ctx, .in = in, .out = out};
    cn_annotate_result r = {0};
    const char *const *weights = options ? options->annotate.weights : NULL;
    cn_status s = cn_condition_open(ctx, kind, options ? options : &none, &j.condition);
    if (s == CN_OK && weights && *weights && cn_condition_side_by_side(&j.condition))
        s = cn_fail(ctx, CN_EINVAL, "%s has no network: it takes no weights (%s)", kind, *weights);
    if (s == CN_OK) s = run(&j, &r);
    cn_bulk_items_free(j.items, j.n);
    cn_listing_free(&j.listing);
    cn_coco_close(j.coco);
    cn_condition_close(&j.condition);
    if (result) *result = r;
    return s;
}
