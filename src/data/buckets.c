/* SPDX-License-Identifier: Apache-2.0 */
/* buckets.c - see buckets.h. */
#include "data/buckets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- the sizes -------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    const cn_train_bucket *x = a, *y = b;
    if (x->width != y->width) return x->width < y->width ? -1 : 1;
    return (x->height > y->height) - (x->height < y->height);
}

/* Where a size stands in the list, in whose order it is kept; -1: the list is full. */
static int find_or_add(cn_train_bucket *list, int *n, int64_t width, int64_t height)
{
    const cn_train_bucket key = {.width = width, .height = height};
    int at = 0;
    while (at < *n && by_size(&list[at], &key) < 0) at++;
    if (at < *n && by_size(&list[at], &key) == 0) return at;
    if (*n == CN_MAX_BUCKETS) return -1;
    memmove(list + at + 1, list + at, (size_t)(*n - at) * sizeof *list);
    list[at] = key;
    ++*n;
    return at;
}

cn_bucket_rules cn_bucket_rules_of(const cn_train_options *o)
{
    const int64_t step = CN_MAX(o->bucket_reso_steps, 1);
    const int64_t min = o->min_bucket_reso ? o->min_bucket_reso : CN_MIN(256, o->resolution / 2);
    const int64_t max = o->max_bucket_reso ? o->max_bucket_reso : CN_MAX(1024, 2 * o->resolution);
    return (cn_bucket_rules){.enabled = o->enable_bucket,
                             .resolution = o->resolution,
                             .min_reso = CN_MAX(step, min / step * step),
                             .max_reso = (max + step - 1) / step * step,
                             .steps = step,
                             .no_upscale = o->enable_bucket && o->bucket_no_upscale};
}

cn_status cn_bucket_options_check(cn_ctx *ctx, const cn_train_options *o)
{
    const bool has_bucket_words = o->min_bucket_reso || o->max_bucket_reso || o->bucket_no_upscale;
    const cn_bucket_rules r = cn_bucket_rules_of(o);
    if (has_bucket_words && !o->enable_bucket)
        return cn_fail(ctx, CN_EINVAL,
                       "--min-bucket-reso, --max-bucket-reso and --bucket-no-upscale say how "
                       "buckets are made; --enable-bucket makes them");
    if (o->enable_bucket && o->bucket_reso_steps > o->resolution)
        return cn_fail(ctx, CN_EINVAL,
                       "--bucket-reso-steps %lld: at most --resolution, %lld, is possible",
                       (long long)o->bucket_reso_steps, (long long)o->resolution);
    if (o->enable_bucket && (r.min_reso > o->resolution || r.max_reso < o->resolution))
        return cn_fail(ctx, CN_EINVAL,
                       "--min-bucket-reso %lld and --max-bucket-reso %lld: --resolution %lld must "
                       "lie between them",
                       (long long)r.min_reso, (long long)r.max_reso, (long long)o->resolution);
    return CN_OK;
}

int cn_bucket_sizes(const cn_bucket_rules *r, cn_train_bucket out[CN_MAX_BUCKETS])
{
    const int64_t area = r->resolution * r->resolution, step = r->steps;
    const int64_t square = r->resolution / step * step;
    int n = 0;
    find_or_add(out, &n, square, square);
    for (int64_t width = r->min_reso; width <= r->max_reso; width += step) {
        const int64_t height = CN_MIN(r->max_reso, area / width / step * step);
        if (height < r->min_reso) continue;
        find_or_add(out, &n, width, height);
        find_or_add(out, &n, height, width);
    }
    return n;
}

/* To a multiple of the step below the nearest whole number. */
static int64_t to_steps(double x, int64_t step)
{
    return (int64_t)(x + 0.5) / step * step;
}

/* What a picture is scaled by under no_upscale: not at all up to the resolution's area, else so
 * that one of its sides, the one that changes proportions less, becomes a multiple of the step. */
static double shrink(const cn_bucket_rules *r, int64_t width, int64_t height)
{
    const double area = (double)(r->resolution * r->resolution);
    const double ratio = (double)width / (double)height;
    if ((double)width * (double)height <= area) return 1;
    const int64_t w = to_steps(sqrt(area * ratio), r->steps);
    const int64_t h = to_steps(sqrt(area / ratio), r->steps);
    const int64_t w_height = to_steps((double)w / ratio, r->steps);
    const int64_t h_width = to_steps((double)h * ratio, r->steps);
    const double by_width = w_height ? fabs((double)w / (double)w_height - ratio) : INFINITY;
    const double by_height = h ? fabs((double)h_width / (double)h - ratio) : INFINITY;
    return by_width < by_height ? (double)w / (double)width : (double)h / (double)height;
}

static bool choose_shrunk(const cn_bucket_rules *r, int64_t width, int64_t height,
                          cn_train_bucket *out)
{
    const double k = shrink(r, width, height);
    *out = (cn_train_bucket){.width = to_steps((double)width * k, r->steps),
                             .height = to_steps((double)height * k, r->steps)};
    return out->width > 0 && out->height > 0;
}

bool cn_bucket_choose(const cn_bucket_rules *r, int64_t width, int64_t height, cn_train_bucket *out)
{
    cn_train_bucket list[CN_MAX_BUCKETS];
    const double ratio = (double)width / (double)height;
    double least = INFINITY;
    if (r->no_upscale) return choose_shrunk(r, width, height, out);
    const int n = cn_bucket_sizes(r, list);
    for (int i = 0; i < n; i++) {
        const bool same = list[i].width == width && list[i].height == height;
        const double error =
            same ? -1 : fabs((double)list[i].width / (double)list[i].height - ratio);
        if (error >= least) continue;
        least = error;
        *out = list[i];
    }
    return true;
}

double cn_bucket_zoom(const cn_bucket_rules *r, const cn_train_bucket *b, int64_t width,
                      int64_t height)
{
    if (!r->no_upscale) return 1;
    const double cover =
        CN_MAX((double)b->width / (double)width, (double)b->height / (double)height);
    return CN_MIN(1, cover / shrink(r, width, height));
}

/* --- which picture in which ------------------------------------------------------------------- */

static cn_status buckets_alloc(cn_ctx *ctx, int64_t n, cn_buckets **out)
{
    cn_buckets *b = cn_alloc0(ctx, sizeof *b);
    if (!b) return CN_ENOMEM;
    b->items = n;
    *out = b;
    return CN_OK;
}

cn_status cn_buckets_create_one(cn_ctx *ctx, int64_t width, int64_t height, int64_t n,
                                cn_buckets **out)
{
    CN_TRY(buckets_alloc(ctx, n, out));
    (*out)->n = 1;
    (*out)->list[0] = (cn_train_bucket){width, height, n};
    return CN_OK;
}

void cn_buckets_destroy(cn_buckets *b)
{
    if (!b) return;
    cn_free(b->of);
    cn_free(b->place);
    cn_free(b);
}

typedef struct scan {
    cn_ctx *ctx;
    const cn_dataset *d;
    cn_buckets *b;
    bool skip_bad;
    cn_status status; /* the first failure's */
    int64_t done;
} scan;

/* *resized: it isn't of its bucket's size. */
static cn_status choose_for(const scan *s, cn_ctx *own, int64_t i, cn_train_bucket *out,
                            bool *resized)
{
    int64_t width = 0, height = 0;
    char where[CN_PATH_BYTES];
    CN_TRY(cn_dataset_size(own, s->d, i, &width, &height));
    if (cn_bucket_choose(&s->b->rules, width, height, out)) {
        *resized = out->width != width || out->height != height;
        return CN_OK;
    }
    CN_TRY(cn_dataset_where(own, s->d, i, where, sizeof where));
    return cn_fail(own, CN_EFORMAT,
                   "%s: %lld x %lld px are less than --bucket-reso-steps %lld; without "
                   "--bucket-no-upscale it would be enlarged",
                   where, (long long)width, (long long)height, (long long)s->b->rules.steps);
}

/* Under the lock. Numbers in `of` count the sizes as they come; they are put in order at the
 * end. */
static void note(scan *s, int64_t i, cn_status status, const cn_train_bucket *size,
                 const char *error)
{
    cn_buckets *b = s->b;
    int at = 0;
    s->done++;
    if (status == CN_OK) {
        while (at < b->n && by_size(&b->list[at], size) != 0) at++;
        if (at == CN_MAX_BUCKETS)
            status =
                cn_fail(s->ctx, CN_EINVAL,
                        "pictures of more than %d sizes; larger --bucket-reso-steps make fewer",
                        CN_MAX_BUCKETS);
    } else if (s->skip_bad && status != CN_ENOMEM) {
        cn_log(s->ctx, CN_LOG_WARN, "%s; the pair is left out", error);
        b->of[i] = CN_NO_BUCKET;
        return;
    } else if (s->status == CN_OK) {
        (void)cn_fail(s->ctx, status, "%s", error);
    }
    if (s->status == CN_OK) s->status = status;
    if (status != CN_OK) return;
    if (at == b->n) b->list[b->n++] = (cn_train_bucket){size->width, size->height, 0};
    b->list[at].count++;
    b->of[i] = (uint16_t)at;
}

static cn_status
look_at_all(scan *s, void (*progress)(void *user, const char *what, int64_t done, int64_t total),
            void *user)
{
    const int64_t n = s->b->items;
#pragma omp parallel for schedule(dynamic, 16) num_threads(cn_threads(s->ctx))
    for (int64_t i = 0; i < n; i++) {
        cn_status stopped;
        bool resized = false;
        cn_train_bucket size = {0};
#pragma omp atomic read
        stopped = s->status;
        if (stopped != CN_OK || cn_cancelled(s->ctx)) continue;
        /* a context of its own keeps this picture's message apart from the others' */
        cn_ctx *own = cn_ctx_fork(s->ctx, false);
        const cn_status status = own ? choose_for(s, own, i, &size, &resized) : CN_ENOMEM;
#pragma omp critical(cn_buckets_scan)
        {
            note(s, i, status, &size, own ? cn_error(own) : "no memory");
            s->b->resized |= resized;
            if (progress && (s->done % 1000 == 0 || s->done == n))
                progress(user, "sizes", s->done, n);
        }
        cn_ctx_destroy(own);
    }
    if (s->status == CN_OK && cn_cancelled(s->ctx))
        return cn_fail(s->ctx, CN_ECANCELLED, "stopped while looking at pictures' sizes");
    return s->status;
}

/* Sizes in order, whatever thread met them first, and every picture's place in its own. */
static void put_in_order(cn_buckets *b)
{
    uint16_t new_of[CN_MAX_BUCKETS];
    int64_t filled[CN_MAX_BUCKETS] = {0};
    cn_train_bucket met[CN_MAX_BUCKETS];
    memcpy(met, b->list, (size_t)b->n * sizeof *met);
    qsort(b->list, (size_t)b->n, sizeof *b->list, by_size);
    for (int k = 0; k < b->n; k++)
        for (int to = 0; to < b->n; to++)
            if (by_size(&met[k], &b->list[to]) == 0) new_of[k] = (uint16_t)to;
    for (int64_t i = 0; i < b->items; i++) {
        if (b->of[i] == CN_NO_BUCKET) continue;
        b->of[i] = new_of[b->of[i]];
        b->place[i] = (uint32_t)filled[b->of[i]]++;
    }
}

cn_status cn_buckets_create(cn_ctx *ctx, const cn_dataset *d, int64_t n,
                            const cn_bucket_rules *rules, bool skip_bad,
                            void (*progress)(void *user, const char *what, int64_t done,
                                             int64_t total),
                            void *user, cn_buckets **out)
{
    cn_buckets *b = NULL;
    if (!rules->enabled)
        return cn_buckets_create_one(ctx, rules->resolution, rules->resolution, n, out);
    CN_TRY(buckets_alloc(ctx, n, &b));
    b->rules = *rules;
    b->of = cn_alloc_array(ctx, (size_t)n, sizeof *b->of);
    b->place = cn_alloc_array(ctx, (size_t)n, sizeof *b->place);
    scan s = {.ctx = ctx, .d = d, .b = b, .skip_bad = skip_bad};
    cn_status status = b->of && b->place ? look_at_all(&s, progress, user) : CN_ENOMEM;
    if (status == CN_OK && !b->n)
        status = cn_fail(ctx, CN_EFORMAT, "no picture of the data set can be read");
    if (status != CN_OK) {
        cn_buckets_destroy(b);
        return status;
    }
    put_in_order(b);
    *out = b;
    return CN_OK;
}

int cn_buckets_of(const cn_buckets *b, int64_t i)
{
    return b->of ? b->of[i] : 0;
}

int64_t cn_buckets_place(const cn_buckets *b, int64_t i)
{
    return b->place ? b->place[i] : i;
}

int cn_buckets_largest(const cn_buckets *b)
{
    int largest = 0;
    for (int k = 1; k < b->n; k++)
        if (b->list[k].width * b->list[k].height > b->list[largest].width * b->list[largest].height)
            largest = k;
    return largest;
}

int64_t cn_buckets_epoch(const cn_buckets *b, int64_t unit)
{
    int64_t samples = 0;
    if (!b->rules.enabled) return b->items;
    for (int k = 0; k < b->n; k++) samples += (b->list[k].count + unit - 1) / unit * unit;
    return samples;
}

/* Under no_upscale what a condition shows follows from its picture's size. */
cn_status cn_buckets_load(cn_ctx *ctx, const cn_dataset *d, const cn_buckets *b, int bucket,
                          int64_t i, double x, double y, cn_image **condition, cn_image **target)
{
    const cn_train_bucket *size = &b->list[bucket];
    cn_crop crop = {x, y, 1};
    if (b->rules.no_upscale) {
        int64_t width = 0, height = 0;
        CN_TRY(cn_dataset_size(ctx, d, i, &width, &height));
        crop.zoom = cn_bucket_zoom(&b->rules, size, width, height);
    }
    return cn_dataset_load_crop(ctx, d, i, size->width, size->height, crop, condition, target);
}
