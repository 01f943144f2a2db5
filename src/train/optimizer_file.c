/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer_file.c - the optimizer's moments on disk.
 *
 * They are written as F32 in the published layout whatever they are in memory, so a run may go on
 * with other states or on another machine. Moments in bytes add their scales, in the order of the
 * parameter's physical layout: where that is the same again, so is every byte. Otherwise values are
 * rounded once more.
 */
#include "train/optimizer_internal.h"

#include "io/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STATE_NAME_BYTES = CN_NAME_MAX + 80, M = 0, V = 1, EMA = 2, KINDS = 3, SUM = 3 };

/* Those of the options: what follows from them can't overflow. */
#define MAX_STEPS INT64_C(1000000000000)
enum { MAX_PASSES = 1000000, MAX_METADATA = 16 };

/* "sum": gradients of a step that was cut short between two of its passes */
static const char *const kinds[KINDS + 1] = {"m", "v", "ema", "sum"};

static int kinds_of(const cn_adamw *a)
{
    return a->ema ? KINDS : KINDS - 1;
}

/* Muon has one moment. */
static bool is_kept(const cn_adamw *a, int kind, int64_t i)
{
    return kind != V || !cn_muon_learns(&a->o, a->params[i]);
}

static cn_moment *moment(const cn_adamw *a, int kind, int64_t i)
{
    return kind == M ? &a->m[i] : kind == V ? &a->v[i] : &a->ema[i];
}

/* --- saving ----------------------------------------------------------------------------------- */

/* What one tensor of the file holds: the parameter's number, the kind of moment; scales or
 * values. */
typedef struct entry {
    int64_t param;
    int kind;
    bool scales;
} entry;

typedef struct writer {
    const cn_adamw *a;
    const entry *entries;
    int64_t next; /* entry to be filled */
} writer;

/* Between the published layout and physical values in the host's memory, which the backend may
 * want in its own meanwhile. */
static cn_status convert(const cn_adamw *a, const cn_param *q, float *physical, float *plain,
                         bool to_plain)
{
    cn_backend *be = a->be;
    const size_t bytes = (size_t)cn_param_physical(q) * sizeof(float);
    float *x = be->addressable ? physical : be->alloc(be, a->ctx, bytes);
    cn_status s = x ? CN_OK : CN_ENOMEM;
    if (s == CN_OK && x != physical && to_plain) s = be->write(be, a->ctx, x, physical, bytes);
    if (s == CN_OK)
        s = to_plain ? be->to_plain(be, a->ctx, q, CN_F32, x, plain)
                     : be->from_plain(be, a->ctx, q, CN_F32, plain, CN_F32, x);
    if (s == CN_OK && x != physical && !to_plain) s = be->read(be, a->ctx, physical, x, bytes);
    if (x && x != physical) be->free(be, x, bytes);
    return s;
}

/* A moment in bytes, in the host's memory: host_free. */
static cn_status host_create(cn_ctx *ctx, const cn_param *q, const cn_moment *m, cn_moment *out)
{
    *out = (cn_moment){.map = m->map,
                       .codes = cn_alloc(ctx, cn_moment_code_bytes(q)),
                       .scales = cn_alloc(ctx, cn_moment_blocks(q) * sizeof(float))};
    return out->codes && out->scales ? CN_OK : CN_ENOMEM;
}

static void host_free(cn_moment *m)
{
    cn_free(m->codes);
    cn_free(m->scales);
}

static cn_status read_scales(const cn_adamw *a, const cn_param *q, const cn_moment *m, float *out)
{
    return a->be->read(a->be, a->ctx, out, m->scales, cn_moment_blocks(q) * sizeof(float));
}

/* The values of a moment in bytes, physical. */
static cn_status expand(const cn_adamw *a, const cn_param *q, const cn_moment *m, float *out)
{
    cn_moment host;
    const int64_t n = cn_param_physical(q);
    cn_status s = host_create(a->ctx, q, m, &host);
    if (s == CN_OK) s = a->be->read(a->be, a->ctx, host.codes, m->codes, cn_moment_code_bytes(q));
    if (s == CN_OK) s = read_scales(a, q, m, host.scales);
    for (int64_t i = 0; s == CN_OK && i < n; i++)
        out[i] = m->map->value[host.codes[i]] * host.scales[i / CN_QUANT8_BLOCK];
    host_free(&host);
    return s;
}

static size_t entry_bytes(const cn_adamw *a, const entry *e)
{
    const cn_param *q = a->params[e->param];
    return (e->scales ? cn_moment_blocks(q) : (size_t)cn_param_elements(q)) * sizeof(float);
}

/* An entry's values, by whoever has them. */
static cn_status fill_own_entry(const cn_adamw *a, const entry *e, float *out)
{
    const cn_param *q = a->params[e->param];
    if (e->kind == SUM) return a->be->to_plain(a->be, a->ctx, q, CN_F32, a->sum[e->param], out);
    const cn_moment *m = moment(a, e->kind, e->param);
    if (e->scales) return read_scales(a, q, m, out);
    if (!m->codes) return a->be->to_plain(a->be, a->ctx, q, CN_F32, m->f32, out);
    float *values = cn_alloc_array(a->ctx, (size_t)cn_param_physical(q), sizeof *values);
    cn_status s = values ? expand(a, q, m, values) : CN_ENOMEM;
    if (s == CN_OK) s = convert(a, q, values, out, true);
    cn_free(values);
    return s;
}

/* The same on every rank, from the owner's. */
static cn_status fill_entry(writer *w, float *out)
{
    const cn_adamw *a = w->a;
    const entry *e = &w->entries[w->next++];
    const cn_status s = cn_adamw_owns(a, e->param) ? fill_own_entry(a, e, out) : CN_OK;
    if (!a->o.ranks) return s;
    CN_TRY(cn_ranks_begin_copy(a->o.ranks, out, entry_bytes(a, e), a->owner[e->param]));
    CN_TRY(cn_ranks_finish(a->o.ranks));
    return s;
}

static cn_status fill_state(void *user, int64_t at, float *out)
{
    (void)at; /* they are asked for in their order */
    return fill_entry(user, out);
}

/* The entries that nobody has asked for: those of a rank that doesn't write, or of a file that
 * failed. The others wait for them. */
static cn_status fill_unread_entries(cn_ctx *ctx, writer *w, int64_t n)
{
    size_t most = 1;
    cn_status s = CN_OK;
    if (!w->a->o.ranks) return CN_OK;
    for (int64_t i = w->next; i < n; i++) most = CN_MAX(most, entry_bytes(w->a, &w->entries[i]));
    float *values = cn_alloc(ctx, most);
    if (!values) return CN_ENOMEM;
    while (w->next < n && s == CN_OK) s = fill_entry(w, values);
    cn_free(values);
    return s;
}

/* The steps that each parameter has taken, one number per parameter: they differ when parts join
 * later. */
static char *steps_text(const cn_adamw *a)
{
    cn_str s = {0};
    cn_str_addf(&s, "%lld", (long long)a->steps);
    for (int64_t i = 0; i < a->n; i++) cn_str_addf(&s, " %lld", (long long)a->steps_of[i]);
    if (!s.failed) return s.data;
    cn_str_free(&s);
    return NULL;
}

/* "m.NETWORK.NAME", or with scales "m.scale.NETWORK.NAME". */
static cn_status state_name(cn_ctx *ctx, const cn_param *q, int kind, bool scales,
                            char out[STATE_NAME_BYTES])
{
    return cn_format(ctx, out, STATE_NAME_BYTES, "%s.%s%s.%s", kinds[kind], scales ? "scale." : "",
                     q->network, q->diffusers_name);
}

/* Fills list and entries; *n tensors of them. */
static cn_status list_state(cn_ctx *ctx, const cn_adamw *a, char (*names)[STATE_NAME_BYTES],
                            cn_tensor_out *list, entry *entries, int64_t *n)
{
    *n = 0;
    for (int kind = 0; kind < kinds_of(a); kind++) {
        for (int64_t i = 0; i < a->n; i++) {
            const cn_param *q = a->params[i];
            if (!is_kept(a, kind, i)) continue;
            const bool in_bytes = kind != EMA && cn_moment_in_bytes(&a->o, q);
            CN_TRY(state_name(ctx, q, kind, false, names[*n]));
            list[*n] = (cn_tensor_out){.name = names[*n], .dtype = CN_F32, .ndim = q->ndim};
            memcpy(list[*n].shape, q->shape, (size_t)q->ndim * sizeof *q->shape);
            entries[(*n)++] = (entry){i, kind, false};
            if (!in_bytes) continue;
            CN_TRY(state_name(ctx, q, kind, true, names[*n]));
            list[*n] = (cn_tensor_out){.name = names[*n],
                                       .dtype = CN_F32,
                                       .ndim = 1,
                                       .shape = {(int64_t)cn_moment_blocks(q)}};
            entries[(*n)++] = (entry){i, kind, true};
        }
    }
    for (int64_t i = 0; a->summed && i < a->n; i++) {
        const cn_param *q = a->params[i];
        if (!a->has_sum[i]) continue;
        CN_TRY(state_name(ctx, q, SUM, false, names[*n]));
        list[*n] = (cn_tensor_out){.name = names[*n], .dtype = CN_F32, .ndim = q->ndim};
        memcpy(list[*n].shape, q->shape, (size_t)q->ndim * sizeof *q->shape);
        entries[(*n)++] = (entry){i, SUM, false};
    }
    return CN_OK;
}

cn_status cn_adamw_save_with(cn_ctx *ctx, const cn_adamw *a, const char *path,
                             const char *const *more)
{
    cn_status s = CN_ENOMEM;
    int64_t n = 0;
    const size_t most = (2 * KINDS + 1) * (size_t)a->n + 1;
    char(*names)[STATE_NAME_BYTES] = cn_alloc_array(ctx, most, sizeof *names);
    cn_tensor_out *list = cn_alloc_array(ctx, most, sizeof *list);
    entry *entries = cn_alloc_array(ctx, most, sizeof *entries);
    char *steps = steps_text(a);
    if (!names || !list || !entries || !steps) goto fail;
    if ((s = list_state(ctx, a, names, list, entries, &n)) != CN_OK) goto fail;
    writer w = {a, entries, 0};
    char summed[32];
    snprintf(summed, sizeof summed, "%lld", (long long)a->summed);
    const char *metadata[MAX_METADATA + 1] = {"steps", steps, "summed", summed};
    for (int i = 0; more && more[i] && 4 + i < MAX_METADATA; i++) metadata[4 + i] = more[i];
    if (cn_ranks_rank(a->o.ranks) == 0)
        s = cn_safetensors_write(ctx, path, list, n, fill_state, &w, metadata);
    const cn_status rest = fill_unread_entries(ctx, &w, n);
    if (s == CN_OK) s = rest;
fail:
    cn_free(names);
    cn_free(list);
    cn_free(entries);
    cn_free(steps);
    return s;
}

cn_status cn_adamw_save(const cn_adamw *a, const char *path)
{
    return cn_adamw_save_with(a->ctx, a, path, NULL);
}

/* --- loading ---------------------------------------------------------------------------------- */

static cn_status parse_steps(cn_adamw *a, const char *text)
{
    for (int64_t i = -1; i < a->n; i++) {
        char *end = NULL;
        const long long value = text ? strtoll(text, &end, 10) : 0;
        if (!text || end == text || value < 0 || value > MAX_STEPS)
            return cn_fail(a->ctx, CN_EFORMAT,
                           "the optimizer's step counts are missing or out of range");
        *(i < 0 ? &a->steps : &a->steps_of[i]) = value;
        text = end;
    }
    return CN_OK;
}

/* Scales under which `values` were rounded, or false: they are of another layout. */
static bool scales_fit(const cn_moment *m, const float *values, int64_t n)
{
    for (int64_t at = 0; at < n; at += CN_QUANT8_BLOCK) {
        const float scale = m->scales[at / CN_QUANT8_BLOCK];
        for (int64_t i = at; i < CN_MIN(at + CN_QUANT8_BLOCK, n); i++) {
            const int code = scale > 0 ? cn_quant8_code(m->map, values[i] / scale) : m->map->zero;
            if (!(m->map->value[code] * scale == values[i])) return false;
        }
    }
    return true;
}

static void choose_scales(cn_moment *m, const float *values, int64_t n)
{
    memset(m->scales, 0, (size_t)((n + CN_QUANT8_BLOCK - 1) / CN_QUANT8_BLOCK) * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        float *scale = &m->scales[i / CN_QUANT8_BLOCK];
        *scale = fmaxf(*scale, fabsf(values[i]));
    }
}

/* Physical values to bytes, under the file's scales where these belong to them; m: in the host's
 * memory. */
static cn_status round_values(cn_adamw *a, const cn_tensors *t, int kind, int64_t i,
                              const float *values, cn_moment *m)
{
    const cn_param *q = a->params[i];
    const int64_t n = cn_param_physical(q);
    char name[STATE_NAME_BYTES];
    memset(m->codes, m->map->zero, cn_moment_code_bytes(q));
    CN_TRY(state_name(a->ctx, q, kind, true, name));
    const cn_tensor_info *info = cn_tensors_find(t, name);
    const bool usable = info && info->elements == (int64_t)cn_moment_blocks(q);
    if (usable) CN_TRY(cn_tensors_read(a->ctx, t, info, m->scales));
    if (!usable || !scales_fit(m, values, n)) choose_scales(m, values, n);
    for (int64_t k = 0; k < n; k++) {
        const float scale = m->scales[k / CN_QUANT8_BLOCK];
        m->codes[k] =
            (uint8_t)(scale > 0 ? cn_quant8_code(m->map, values[k] / scale) : m->map->zero);
    }
    return CN_OK;
}

static cn_status round_moment(cn_adamw *a, const cn_tensors *t, int kind, int64_t i,
                              const float *values)
{
    const cn_param *q = a->params[i];
    const cn_moment *m = moment(a, kind, i);
    cn_backend *be = a->be;
    cn_moment host;
    cn_status s = host_create(a->ctx, q, m, &host);
    if (s == CN_OK) s = round_values(a, t, kind, i, values, &host);
    if (s == CN_OK) s = be->write(be, a->ctx, m->codes, host.codes, cn_moment_code_bytes(q));
    if (s == CN_OK)
        s = be->write(be, a->ctx, m->scales, host.scales, cn_moment_blocks(q) * sizeof(float));
    host_free(&host);
    return s;
}

static cn_status load_moment(cn_adamw *a, const cn_tensors *t, int kind, int64_t i, float *plain)
{
    const cn_param *q = a->params[i];
    const cn_moment *m = moment(a, kind, i);
    char name[STATE_NAME_BYTES];
    CN_TRY(state_name(a->ctx, q, kind, false, name));
    const cn_tensor_info *info = cn_tensors_find(t, name);
    if (!is_kept(a, kind, i))
        return info ? cn_fail(a->ctx, CN_EMISMATCH, "%s is AdamW's; this run learns by Muon", name)
                    : CN_OK;
    if (!info && kind == EMA) return a->be->copy(a->be, a->ctx, m->f32, q->data, q->data_bytes);
    if (!info || info->elements != cn_param_elements(q))
        return cn_fail(a->ctx, CN_EMISMATCH,
                       "%s %s; the checkpoint is of another network or another optimizer", name,
                       info ? "has another size" : "is missing");
    CN_TRY(cn_tensors_read(a->ctx, t, info, plain));
    if (!m->codes) return a->be->from_plain(a->be, a->ctx, q, CN_F32, plain, CN_F32, m->f32);
    float *values = cn_alloc_array(a->ctx, (size_t)cn_param_physical(q), sizeof *values);
    if (!values) return CN_ENOMEM;
    cn_status s = convert(a, q, values, plain, false);
    if (s == CN_OK) s = round_moment(a, t, kind, i, values);
    cn_free(values);
    return s;
}

/* What a cut step had summed, if the file has it. */
static cn_status load_sum(cn_adamw *a, const cn_tensors *t, int64_t i, float *plain)
{
    const cn_param *q = a->params[i];
    char name[STATE_NAME_BYTES];
    CN_TRY(state_name(a->ctx, q, SUM, false, name));
    const cn_tensor_info *info = cn_tensors_find(t, name);
    if (!info || info->elements != cn_param_elements(q)) return CN_OK;
    if (!a->sum[i] && !(a->sum[i] = a->be->alloc(a->be, a->ctx, q->data_bytes))) return CN_ENOMEM;
    CN_TRY(cn_tensors_read(a->ctx, t, info, plain));
    a->has_sum[i] = true;
    return a->be->from_plain(a->be, a->ctx, q, CN_F32, plain, CN_F32, a->sum[i]);
}

cn_status cn_adamw_load(cn_adamw *a, const char *path)
{
    cn_tensors *t = NULL;
    int64_t most = 1;
    for (int64_t i = 0; i < a->n; i++) most = CN_MAX(most, cn_param_elements(a->params[i]));
    float *plain = cn_alloc_array(a->ctx, (size_t)most, sizeof *plain);
    if (!plain) return CN_ENOMEM;
    cn_status s = cn_tensors_open(a->ctx, path, &t);
    if (s != CN_OK) goto fail;
    s = parse_steps(a, cn_tensors_metadata(t, "steps"));
    for (int64_t i = 0; i < a->n && s == CN_OK; i++)
        for (int kind = cn_adamw_owns(a, i) ? 0 : KINDS; kind < kinds_of(a) && s == CN_OK; kind++)
            s = load_moment(a, t, kind, i, plain);
    const char *summed = cn_tensors_metadata(t, "summed");
    a->summed = summed ? strtoll(summed, NULL, 10) : 0;
    if (s == CN_OK && (a->summed < 0 || a->summed > MAX_PASSES))
        s = cn_fail(a->ctx, CN_EFORMAT, "\"summed\" is %lld passes", (long long)a->summed);
    for (int64_t i = 0; i < a->n && s == CN_OK && a->summed > 0; i++) s = load_sum(a, t, i, plain);
    if (s != CN_OK) s = cn_fail_prefix(a->ctx, s, "%s", path);
fail:
    cn_tensors_close(t);
    cn_free(plain);
    return s;
}
