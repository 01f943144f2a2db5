/* SPDX-License-Identifier: Apache-2.0 */
/* bulk.c - see bulk.h. */
#include "annotate/bulk.h"

#include "io/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILE = 1 << 30 };

typedef struct run {
    cn_ctx *ctx;
    const cn_bulk *b;
    uint8_t *states;  /* [n] */
    int64_t *by_name; /* numbers of items, sorted by what they write */
    FILE *record;
    cn_bulk_result counts;
    int64_t done, total;
    cn_status stopped;
} run;

static cn_status path_in(cn_ctx *ctx, const cn_bulk *b, const char *name, char out[CN_PATH_BYTES])
{
    return cn_format(ctx, out, CN_PATH_BYTES, "%s/%s", b->dir, name);
}

cn_status cn_bulk_item_set(cn_ctx *ctx, cn_bulk_item *item, const char *in, const char *out)
{
    *item = (cn_bulk_item){cn_strdup(ctx, in), cn_strdup(ctx, out)};
    return item->in && item->out ? CN_OK : CN_ENOMEM;
}

void cn_bulk_items_free(cn_bulk_item *items, int64_t n)
{
    for (int64_t i = 0; items && i < n; i++) {
        cn_free(items[i].in);
        cn_free(items[i].out);
    }
    cn_free(items);
}

/* --- names ------------------------------------------------------------------------------------ */

static int compare_names(const void *a, const void *b, void *user)
{
    const cn_bulk_item *items = user;
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    const int order = strcmp(items[x].out, items[y].out);
    return order ? order : (x > y) - (x < y);
}

static int64_t find(const run *r, const char *name)
{
    int64_t low = 0, high = r->b->n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (strcmp(r->b->items[r->by_name[middle]].out, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == r->b->n) return -1;
    const int64_t i = r->by_name[low];
    return strcmp(r->b->items[i].out, name) == 0 ? i : -1;
}

static void fail_item(run *r, int64_t i, const char *text)
{
    r->states[i] = CN_BULK_FAILED;
    r->counts.failed++;
    if (r->b->problem) r->b->problem(r->b->told, text);
}

/* a.jpg and a.png would both become a.png: the first one does. */
static void refuse_doubles(run *r)
{
    char text[2 * CN_PATH_BYTES];
    for (int64_t k = 1, first = 0; k < r->b->n; k++) {
        const cn_bulk_item *a = &r->b->items[r->by_name[first]];
        const cn_bulk_item *c = &r->b->items[r->by_name[k]];
        if (strcmp(a->out, c->out) != 0) {
            first = k;
            continue;
        }
        snprintf(text, sizeof text, "%.2000s: %.2000s would be written to the same file, %.2000s",
                 c->in, a->in, c->out);
        fail_item(r, r->by_name[k], text);
    }
}

/* --- the record ------------------------------------------------------------------------------- */

static void add_source(json_t *line, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return;
    json_object_set_new(line, "bytes", json_integer(st.st_size));
    json_object_set_new(line, "modified", json_integer(st.st_mtim.tv_sec));
}

/* Whether a line of the record still tells how item i's picture came about. */
static bool is_current(cn_ctx *ctx, const run *r, const json_t *line, int64_t i)
{
    struct stat st;
    char path[CN_PATH_BYTES];
    const cn_bulk_item *item = &r->b->items[i];
    return r->states[i] == CN_BULK_TODO && stat(item->in, &st) == 0 &&
           cn_json_int(line, "bytes", -1) == st.st_size &&
           cn_json_int(line, "modified", -1) == st.st_mtim.tv_sec &&
           path_in(ctx, r->b, item->out, path) == CN_OK && cn_file_exists(path);
}

static cn_status write_line(cn_ctx *ctx, const run *r, FILE *f, const json_t *line)
{
    char *text = cn_json_text(line, JSON_COMPACT);
    if (!text) return cn_fail(ctx, CN_ENOMEM, "no memory for a line of the record");
    const bool ok = fprintf(f, "%s\n", text) > 0 && fflush(f) == 0;
    const int error = errno;
    free(text);
    return ok ? CN_OK
              : cn_fail(ctx, CN_EIO, "can't write \"%s/%s\": %s", r->b->dir, r->b->record,
                        strerror(error));
}

/* Copies the lines that still hold to `f` and marks their items as kept. A damaged line is that of
 * a program that was killed: its picture is made again. */
static cn_status keep_lines(run *r, const char *path, FILE *f)
{
    cn_ctx *ctx = r->ctx;
    cn_jsonl *lines = NULL;
    json_t *line = NULL;
    if (!cn_file_exists(path)) return CN_OK;
    CN_TRY(cn_jsonl_open(ctx, path, &lines));
    cn_status s = cn_jsonl_next(ctx, lines, &line);
    const bool same =
        s == CN_OK && line && strcmp(cn_json_str(line, "settings", ""), r->b->settings) == 0;
    json_decref(line);
    s = CN_OK;
    while (same && s == CN_OK) {
        line = NULL;
        s = cn_jsonl_next(ctx, lines, &line);
        if (s == CN_EFORMAT) {
            s = CN_OK;
            continue;
        }
        if (s != CN_OK || !line) break;
        const int64_t i = find(r, cn_json_str(line, "file", ""));
        if (i >= 0 && is_current(ctx, r, line, i)) {
            r->states[i] = CN_BULK_KEPT;
            r->counts.kept++;
            s = write_line(ctx, r, f, line);
        }
        json_decref(line);
    }
    cn_jsonl_close(lines);
    return s;
}

/* The record begins anew with what is kept; lines of this run go behind. */
static cn_status open_record(run *r)
{
    char path[CN_PATH_BYTES];
    cn_file_writer w;
    CN_TRY(path_in(r->ctx, r->b, r->b->record, path));
    CN_TRY(cn_writer_open(r->ctx, path, &w));
    json_t *head = json_pack("{s:s}", "settings", r->b->settings);
    cn_status s = head ? write_line(r->ctx, r, w.f, head) : CN_ENOMEM;
    json_decref(head);
    if (s == CN_OK) s = keep_lines(r, path, w.f);
    if (s != CN_OK) {
        cn_writer_abort(&w);
        return s;
    }
    CN_TRY(cn_writer_commit(r->ctx, &w));
    return cn_file_append(r->ctx, path, false, &r->record);
}

/* --- items ------------------------------------------------------------------------------------ */

static cn_status make_folder(cn_ctx *ctx, const char *path)
{
    char folder[CN_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return CN_OK;
    CN_TRY(cn_format(ctx, folder, sizeof folder, "%.*s", (int)(slash - path), path));
    return cn_dir_make(ctx, folder);
}

static cn_status save(cn_ctx *ctx, const cn_bulk *b, const char *name, const cn_image *image)
{
    char path[CN_PATH_BYTES];
    CN_TRY(path_in(ctx, b, name, path));
    CN_TRY(make_folder(ctx, path));
    return cn_image_save_png(ctx, path, image, NULL);
}

static cn_status copy(cn_ctx *ctx, const cn_bulk *b, const cn_bulk_item *item, bool *broken)
{
    char path[CN_PATH_BYTES], *data = NULL;
    size_t n = 0;
    CN_TRY(path_in(ctx, b, item->out, path));
    CN_TRY(cn_file_read(ctx, item->in, MAX_FILE, &data, &n));
    cn_status s = make_folder(ctx, path);
    if (s == CN_OK) s = cn_file_write(ctx, path, data, n);
    *broken = s != CN_OK;
    cn_free(data);
    return s;
}

/* *broken: the failure isn't the picture's, going on is of no use. */
static cn_status make_item(run *r, cn_ctx *ctx, int64_t i, json_t *line, bool *broken)
{
    const cn_bulk_item *item = &r->b->items[i];
    cn_image *image = NULL;
    json_object_set_new(line, "file", json_string(item->out));
    add_source(line, item->in);
    if (!r->b->make) return copy(ctx, r->b, item, broken);
    CN_TRY(r->b->make(r->b->user, ctx, i, line, &image));
    cn_status s = save(ctx, r->b, item->out, image);
    *broken = s != CN_OK;
    cn_image_destroy(image);
    return s;
}

static void note_item(run *r, cn_ctx *ctx, int64_t i, const json_t *line, cn_status s, bool broken)
{
    if (s == CN_OK) {
        s = write_line(ctx, r, r->record, line);
        broken = s != CN_OK;
    }
    if (s == CN_OK) {
        r->states[i] = CN_BULK_MADE;
        r->counts.made++;
    } else if (s == CN_ECANCELLED) {
        return; /* made by the next run */
    } else if (broken || s == CN_ENOMEM) {
        if (r->stopped == CN_OK)
            r->stopped = cn_fail(r->ctx, s, "%s", *cn_error(ctx) ? cn_error(ctx) : "out of memory");
    } else {
        fail_item(r, i, cn_error(ctx));
    }
    r->done++;
    if (r->b->progress) r->b->progress(r->b->told, r->done, r->total);
}

static void run_item(run *r, int64_t i)
{
    /* A context of its own keeps a picture's message apart from the others'; alone, a picture has
     * the run's context and all its threads. */
    cn_ctx *ctx = r->b->together ? cn_ctx_fork(r->ctx, true) : r->ctx;
    json_t *line = json_object();
    bool broken = false;
    cn_status s = ctx && line ? make_item(r, ctx, i, line, &broken) : CN_ENOMEM;
#pragma omp critical(cn_bulk)
    note_item(r, ctx, i, line, s, broken);
    json_decref(line);
    if (ctx != r->ctx) cn_ctx_destroy(ctx);
}

static void run_items(run *r)
{
    const int threads = r->b->together ? cn_threads(r->ctx) : 1;
    r->total = r->b->n - r->counts.kept - r->counts.failed;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < r->b->n; i++) {
        cn_status stopped;
        if (r->states[i] != CN_BULK_TODO || cn_cancelled(r->ctx)) continue;
#pragma omp atomic read
        stopped = r->stopped;
        if (stopped == CN_OK) run_item(r, i);
    }
    if (r->stopped == CN_OK && cn_cancelled(r->ctx))
        r->stopped = cn_fail(r->ctx, CN_ECANCELLED,
                             "stopped with %lld of %lld pictures made; the same command goes on "
                             "from here",
                             (long long)(r->counts.made + r->counts.kept), (long long)r->b->n);
}

static cn_status prepare(run *r)
{
    const size_t n = (size_t)CN_MAX(r->b->n, 1);
    if (!r->states) return CN_ENOMEM;
    memset(r->states, CN_BULK_TODO, n);
    r->by_name = cn_alloc_array(r->ctx, n, sizeof *r->by_name);
    if (!r->by_name) return CN_ENOMEM;
    for (int64_t i = 0; i < r->b->n; i++) r->by_name[i] = i;
    qsort_r(r->by_name, (size_t)r->b->n, sizeof *r->by_name, compare_names,
            (void *)(uintptr_t)r->b->items);
    CN_TRY(cn_dir_make(r->ctx, r->b->dir));
    refuse_doubles(r);
    return open_record(r);
}

cn_status cn_bulk_run(cn_ctx *ctx, const cn_bulk *b, uint8_t *states, cn_bulk_result *out)
{
    uint8_t *own = states ? NULL : cn_alloc(ctx, (size_t)CN_MAX(b->n, 1));
    run r = {.ctx = ctx, .b = b, .states = states ? states : own};
    cn_status s = prepare(&r);
    if (s == CN_OK) {
        run_items(&r);
        s = r.stopped;
    }
    if (r.record) fclose(r.record);
    cn_free(r.by_name);
    cn_free(own);
    *out = r.counts;
    return s;
}
