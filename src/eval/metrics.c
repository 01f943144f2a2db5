/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - the run's log as JSON lines. */
#include "eval/metrics.h"

#include "io/events.h"
#include "io/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cn_metrics {
    cn_ctx *ctx;
    FILE *f;
    char path[CN_PATH_BYTES];
    cn_str line;
    cn_events *events; /* NULL: none */
    /* of the line that is being put together */
    char event[32];
    int64_t step;     /* -1: not known yet */
    cn_status status; /* of the event file */
};

/* Keeps the lines of the file up to last_step; a torn last line (the run was killed) goes too. */
static cn_status keep_until(cn_ctx *ctx, const char *path, int64_t last_step)
{
    char *text = NULL;
    size_t n = 0;
    cn_str kept = {0};
    CN_TRY(cn_file_read(ctx, path, CN_JSON_MAX_BYTES, &text, &n));
    for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
        json_error_t error;
        json_t *object = cn_json_parse(at, (size_t)(end - at), 0, &error);
        kept.failed = kept.failed || (!object && !error.text[0]);
        if (object && cn_json_int(object, "step", 0) <= last_step)
            cn_str_add(&kept, at, (size_t)(end - at) + 1);
        json_decref(object);
    }
    cn_free(text);
    cn_status s = kept.failed ? cn_fail(ctx, CN_ENOMEM, "out of memory for %s", path)
                              : cn_file_write(ctx, path, kept.data ? kept.data : "", kept.len);
    cn_str_free(&kept);
    return s;
}

static cn_status open_events(cn_metrics *m, const char *dir, int64_t last_step)
{
    char logs[CN_PATH_BYTES];
    CN_TRY(cn_format(m->ctx, logs, sizeof logs, "%s/logs", dir));
    return cn_events_open(m->ctx, logs, last_step + 1, &m->events);
}

cn_status cn_metrics_open(cn_ctx *ctx, const char *dir, int64_t last_step, bool tensorboard,
                          cn_metrics **out)
{
    cn_metrics *m = cn_alloc0(ctx, sizeof *m);
    if (!m) return CN_ENOMEM;
    m->ctx = ctx;
    cn_status s = cn_format(ctx, m->path, sizeof m->path, "%s/metrics.jsonl", dir);
    const bool keep = s == CN_OK && last_step >= 0 && cn_file_exists(m->path);
    if (keep) s = keep_until(ctx, m->path, last_step);
    if (s == CN_OK) s = cn_file_append(ctx, m->path, !keep, &m->f);
    if (s == CN_OK && tensorboard) s = open_events(m, dir, last_step);
    if (s != CN_OK) {
        cn_metrics_close(m);
        return s;
    }
    *out = m;
    return CN_OK;
}

void cn_metrics_close(cn_metrics *m)
{
    if (!m) return;
    if (m->f) fclose(m->f);
    cn_events_close(m->events);
    cn_str_free(&m->line);
    cn_free(m);
}

void cn_metrics_begin(cn_metrics *m)
{
    cn_str_free(&m->line);
    m->line = (cn_str){0};
    snprintf(m->event, sizeof m->event, "train");
    m->step = -1;
    m->status = CN_OK;
    cn_str_adds(&m->line, "{");
}

static void key_of(cn_metrics *m, const char *key)
{
    cn_str_addf(&m->line, "%s\"%s\": ", m->line.len > 1 ? ", " : "", key);
}

/* i: place in a list, -1 for a number alone. */
static void tell_events(cn_metrics *m, const char *key, int64_t i, double value)
{
    char tag[128];
    if (!m->events || m->step < 0 || m->status != CN_OK || !isfinite(value)) return;
    if (i < 0)
        snprintf(tag, sizeof tag, "%s/%s", m->event, key);
    else
        snprintf(tag, sizeof tag, "%s/%s/%02lld", m->event, key, (long long)i);
    m->status = cn_events_scalar(m->events, tag, m->step, value);
}

static void add_number(cn_metrics *m, double value)
{
    if (isfinite(value))
        cn_str_addf(&m->line, "%.9g", value);
    else
        cn_str_adds(&m->line, "null");
}

void cn_metrics_int(cn_metrics *m, const char *key, int64_t value)
{
    key_of(m, key);
    cn_str_addf(&m->line, "%lld", (long long)value);
    tell_events(m, key, -1, (double)value);
    if (strcmp(key, "step") == 0) m->step = value;
}

void cn_metrics_number(cn_metrics *m, const char *key, double value)
{
    key_of(m, key);
    add_number(m, value);
    tell_events(m, key, -1, value);
}

void cn_metrics_bool(cn_metrics *m, const char *key, bool value)
{
    key_of(m, key);
    cn_str_adds(&m->line, value ? "true" : "false");
}

void cn_metrics_string(cn_metrics *m, const char *key, const char *value)
{
    key_of(m, key);
    if (strcmp(key, "event") == 0) snprintf(m->event, sizeof m->event, "%s", value);
    json_t *text = json_string(value);
    char *quoted = cn_json_text(text, JSON_ENCODE_ANY);
    cn_str_adds(&m->line, quoted ? quoted : "null");
    free(quoted);
    json_decref(text);
}

void cn_metrics_numbers(cn_metrics *m, const char *key, const double *values, int64_t n)
{
    key_of(m, key);
    for (int64_t i = 0; i < n; i++) {
        cn_str_adds(&m->line, i ? ", " : "[");
        add_number(m, values[i]);
        tell_events(m, key, i, values[i]);
    }
    cn_str_adds(&m->line, n ? "]" : "[]");
}

cn_status cn_metrics_end(cn_metrics *m)
{
    cn_str_adds(&m->line, "}\n");
    if (m->line.failed) return cn_fail(m->ctx, CN_ENOMEM, "out of memory for %s", m->path);
    const bool ok = fwrite(m->line.data, 1, m->line.len, m->f) == m->line.len && fflush(m->f) == 0;
    if (ok) return m->status; /* its message stands in the context */
    char reason[128];
    return cn_fail(m->ctx, CN_EIO, "cannot write \"%s\": %s", m->path,
                   strerror_r(errno, reason, sizeof reason));
}

cn_status cn_metrics_image(cn_metrics *m, const char *tag, int64_t step, const cn_image *image)
{
    uint8_t *png = NULL;
    size_t n = 0;
    if (!m->events) return CN_OK;
    CN_TRY(cn_png_encode(m->ctx, image, NULL, &png, &n));
    const cn_status s = cn_events_png(m->events, tag, step, png, n, image->width, image->height);
    cn_free(png);
    return s;
}
