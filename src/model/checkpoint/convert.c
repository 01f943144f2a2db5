/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c - any base model or ControlNet to a diffusers folder or a single file.
 *
 * The builders are run once to declare every parameter under both its names; nothing is computed,
 * but where only a look at the UNet's output tells what it predicts (prediction.c). Each tensor is
 * read, converted and written before the next, so memory holds one at a time.
 */
#include "model/checkpoint/base_parts.h"

#include <string.h>

/* --- where each tensor comes from ------------------------------------------------------------- */

/* The UNet of a base model. */
typedef struct unet_file {
    cn_base *base;
    cn_tensors *opened;
    cn_source source;
    char path[CN_PATH_BYTES];
} unet_file;

static void unet_close(unet_file *u)
{
    cn_tensors_close(u->opened);
    cn_base_close(u->base);
}

static cn_status unet_open(cn_ctx *ctx, const char *path, const cn_controlnet_config *fits,
                           unet_file *u)
{
    CN_TRY(cn_base_open(ctx, path, &u->base));
    const cn_status s = cn_control_fits(ctx, fits, &u->base->unet);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", path);
    return cn_base_source(ctx, u->base, CN_NET_UNET, u->path, &u->opened, &u->source);
}

/* A base's networks or a ControlNet, and the tensors of each, in the order written. */
typedef struct job {
    cn_ctx *ctx;
    int n;
    cn_params *params[CN_MAX_FAMILY_NETS];
    cn_place *places[CN_MAX_FAMILY_NETS];
    cn_source source[CN_MAX_FAMILY_NETS];
    cn_tensors *opened[CN_MAX_FAMILY_NETS];
    char path[CN_MAX_FAMILY_NETS][CN_PATH_BYTES];
    /* the first network's values, instead of those of its places; NULL */
    cn_backend *be;
    const cn_params *values;
    /* a transfer: room for a tensor (NULL: there is none), the UNets of the base that the
     * ControlNet was trained for and of the one it is to serve */
    float *room;
    unet_file from, to;
} job;

static void job_close(job *j)
{
    if (!j) return;
    for (int i = 0; i < CN_MAX_FAMILY_NETS; i++) {
        cn_params_destroy(j->params[i]);
        cn_free(j->places[i]);
        cn_tensors_close(j->opened[i]);
    }
    cn_free(j);
}

static cn_status job_open_base(cn_ctx *ctx, const cn_base *b, job **out)
{
    const cn_family *f = cn_family_of(b);
    if (b->vae.tiny)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: isn't written with a tiny VAE, since other programs expect a whole one",
                       b->path);
    job *j = cn_alloc0(ctx, sizeof *j);
    if (!j) return CN_ENOMEM;
    cn_status s = CN_OK;
    j->ctx = ctx;
    j->n = f->n_nets;
    for (int i = 0; s == CN_OK && i < j->n; i++) {
        const cn_net net = f->nets[i].net;
        s = cn_net_declare(ctx, net, cn_base_config_of(b, net), &j->params[i]);
        if (s == CN_OK) s = cn_base_source(ctx, b, net, j->path[i], &j->opened[i], &j->source[i]);
        if (s == CN_OK) s = cn_source_resolve(ctx, &j->source[i], j->params[i], &j->places[i]);
    }
    if (s != CN_OK) {
        job_close(j);
        return s;
    }
    *out = j;
    return CN_OK;
}

static cn_status job_open_control(cn_ctx *ctx, const cn_control_file *c, job **out)
{
    job *j = cn_alloc0(ctx, sizeof *j);
    if (!j) return CN_ENOMEM;
    j->ctx = ctx;
    j->n = 1;
    j->source[0] = cn_control_source(c);
    cn_status s = cn_net_declare(ctx, CN_NET_CONTROL, &c->config, &j->params[0]);
    if (s == CN_OK) s = cn_source_resolve(ctx, &j->source[0], j->params[0], &j->places[0]);
    if (s != CN_OK) {
        job_close(j);
        return s;
    }
    *out = j;
    return CN_OK;
}

static cn_status read_value(const job *j, const cn_param *q, float *out)
{
    const cn_param *value = cn_params_find(j->values, q->diffusers_name);
    if (!value)
        return cn_fail(j->ctx, CN_EINTERNAL, "%s: no such parameter in memory", q->diffusers_name);
    return cn_param_get(j->be, j->ctx, value, out);
}

/* What the ControlNet copied from its base moves as far as the bases differ; zero convolutions and
 * hint network, which no base has, stay. Source: the reference's tool_transfer_control.py. */
static cn_status add_difference(const job *j, const cn_param *q, float *value)
{
    const cn_source *const bases[] = {&j->to.source, &j->from.source};
    for (int k = 0; k < 2; k++) {
        const cn_place at = cn_source_find(bases[k], CN_NET_UNET, q);
        if (!at.tensor) return CN_OK;
        if (!cn_place_fits(&at, q))
            return cn_fail(j->ctx, CN_EMISMATCH, "%s: %s has another shape than the ControlNet's",
                           bases[k]->path, q->diffusers_name);
    }
    for (int k = 0; k < 2; k++) {
        const cn_place at = cn_source_find(bases[k], CN_NET_UNET, q);
        CN_TRY(cn_place_read(j->ctx, bases[k], &at, j->room));
        for (int64_t i = 0; i < cn_param_elements(q); i++) value[i] += k ? -j->room[i] : j->room[i];
    }
    return CN_OK;
}

/* Tensor i of network `first` and those behind it. */
static cn_status fill_from(const job *j, int first, int64_t i, float *out)
{
    if (cn_cancelled(j->ctx)) return cn_fail(j->ctx, CN_ECANCELLED, "cancelled while converting");
    for (int k = first; k < j->n; k++) {
        const bool here = i < cn_params_count(j->params[k]);
        if (here && k == 0 && j->values) return read_value(j, cn_params_at(j->params[k], i), out);
        if (here) {
            CN_TRY(cn_place_read(j->ctx, &j->source[k], &j->places[k][i], out));
            return j->room ? add_difference(j, cn_params_at(j->params[k], i), out) : CN_OK;
        }
        i -= cn_params_count(j->params[k]);
    }
    return cn_fail(j->ctx, CN_EINTERNAL, "convert: a tensor too many was asked for");
}

/* Fails with the names of tensors that dtype can't hold. */
static cn_status check_ranges(const job *j, cn_dtype dtype)
{
    enum { MAX_NAMED = 5 };
    cn_status s = CN_OK;
    cn_str names = {0};
    int64_t n = 0, at = 0;
    for (int k = 0; k < j->n && s == CN_OK; k++)
        for (int64_t i = 0; i < cn_params_count(j->params[k]) && s == CN_OK; i++, at++) {
            const cn_param *q = cn_params_at(j->params[k], i);
            const size_t elements = (size_t)cn_param_elements(q);
            float *values = cn_alloc_array(j->ctx, elements, sizeof *values);
            s = values ? fill_from(j, 0, at, values) : CN_ENOMEM;
            const float most = s == CN_OK ? cn_largest(CN_F32, values, elements) : 0;
            cn_free(values);
            if (most < cn_dtype_limit(dtype) || n++ >= MAX_NAMED) continue;
            cn_str_addf(&names, "%s%s (%g)", n > 1 ? ", " : "", q->diffusers_name, (double)most);
        }
    if (n > MAX_NAMED) cn_str_addf(&names, " and %lld more", (long long)(n - MAX_NAMED));
    if (s == CN_OK && n)
        s = cn_fail(j->ctx, CN_EMISMATCH, "%s: %lld tensor%s beyond the range of %s: %s",
                    j->source[0].path, (long long)n, n == 1 ? " is" : "s are", cn_dtype_name(dtype),
                    names.data ? names.data : "");
    cn_str_free(&names);
    return s;
}

typedef struct fill_user {
    const job *j;
    int first;
} fill_user;

static cn_status fill(void *user, int64_t i, float *out)
{
    const fill_user *u = user;
    return fill_from(u->j, u->first, i, out);
}

/* --- writing ---------------------------------------------------------------------------------- */

static cn_status write_base(cn_ctx *ctx, const cn_base *b, const job *j, const cn_base_target *to)
{
    fill_user u = {j, 0};
    const cn_values values = {to->dtype, fill, &u};
    const char *out = to->path, *tokenizer_dir = to->tokenizer_dir;
    if (to->single)
        return cn_base_single_write(ctx, out, b, (const cn_params *const *)j->params, to->more,
                                    &values);
    CN_TRY(cn_dir_make(ctx, out));
    for (u.first = 0; u.first < j->n; u.first++)
        CN_TRY(cn_base_network_write(ctx, b, j->params[u.first], &values, out));
    char own[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, own, sizeof own, "%s/tokenizer", b->path));
    if (!b->single_file && cn_dir_exists(own)) tokenizer_dir = own;
    if (!tokenizer_dir)
        cn_log(ctx, CN_LOG_WARN, "%s: comes without a tokenizer, and so does %s", b->path, out);
    return cn_base_write_configs(ctx, b, tokenizer_dir, out);
}

static cn_status write_control(cn_ctx *ctx, const cn_control_file *c, const job *j, const char *out,
                               bool single, cn_dtype dtype)
{
    fill_user u = {j, 0};
    const cn_values values = {dtype, fill, &u};
    const cn_part part = {j->params[0], ""};
    char path[CN_PATH_BYTES];
    if (single) return cn_control_single_write(ctx, out, &c->config, j->params[0], NULL, &values);
    CN_TRY(cn_dir_make(ctx, out));
    CN_TRY(
        cn_format(ctx, path, sizeof path, "%s/%s", out, cn_net_kind_of(CN_NET_CONTROL)->weights));
    CN_TRY(cn_parts_write(ctx, path, &part, 1, CN_LAYOUT_DIFFUSERS, NULL, &values));
    return cn_config_save(ctx, out, "config.json", cn_controlnet_config_json(&c->config));
}

cn_status cn_base_save(cn_ctx *ctx, cn_backend *be, const cn_base *b, const cn_params *unet,
                       const cn_base_target *to)
{
    job *j = NULL;
    CN_TRY(job_open_base(ctx, b, &j));
    j->be = be;
    j->values = unet;
    const cn_status s = write_base(ctx, b, j, to);
    job_close(j);
    return s;
}

cn_status cn_base_save_bytes(cn_ctx *ctx, const cn_base *b, size_t *bytes)
{
    job *j = NULL;
    CN_TRY(job_open_base(ctx, b, &j));
    *bytes = 0;
    for (int k = 0; k < j->n; k++)
        for (int64_t i = 0; i < cn_params_count(j->params[k]); i++)
            *bytes += (size_t)cn_param_elements(cn_params_at(j->params[k], i)) * sizeof(float);
    job_close(j);
    return CN_OK;
}

cn_status cn_base_load_saved(cn_ctx *ctx, const char *file, cn_backend *be, cn_params *unet)
{
    cn_tensors *t = NULL;
    CN_TRY(cn_tensors_open(ctx, file, &t));
    const cn_family *f = cn_family_in_file(t, CN_NETS);
    cn_status s = f ? CN_OK : cn_fail(ctx, CN_EFORMAT, "%s: holds no base model", file);
    if (s == CN_OK) {
        const char *prefix = cn_family_find(f, CN_NET_UNET)->prefix;
        s = cn_source_load(
            ctx, &(cn_source){.file = t, .path = file, .prefix = prefix, .layout = CN_LAYOUT_LDM},
            be, unet);
    }
    cn_tensors_close(t);
    return s;
}

/* --- the interface ---------------------------------------------------------------------------- */

/* A single file has no place for heads and groups but metadata of this program's own. */
static void warn_unsaid(cn_ctx *ctx, const cn_base *b, const char *out)
{
    cn_tensors *t = NULL;
    cn_unet_config guess = {0};
    const char *prefix = cn_family_find(cn_family_of(b), CN_NET_UNET)->prefix;
    if (cn_tensors_open(NULL, out, &t) != CN_OK) return;
    const cn_status s = cn_unet_config_from_shapes(NULL, t, prefix, CN_LAYOUT_LDM, &guess);
    cn_tensors_close(t);
    if (s == CN_OK && guess.norm_groups == b->unet.norm_groups &&
        memcmp(guess.heads, b->unet.heads, (size_t)b->unet.levels * sizeof *guess.heads) == 0)
        return;
    cn_log(ctx, CN_LOG_WARN,
           "%s: its UNet has other heads or groups than follow from its shapes; they stand in its "
           "metadata, which other programs don't read: a folder (--to diffusers) says them to all",
           out);
}

static cn_status convert_base(cn_ctx *ctx, cn_backend *be, const cn_convert_job *c)
{
    cn_base *b = NULL;
    job *j = NULL;
    cn_status s = cn_base_open_with(ctx, c->in, c->vae, &b);
    if (s == CN_OK) s = cn_base_settle_prediction(ctx, b, be);
    if (s == CN_OK) s = job_open_base(ctx, b, &j);
    if (s == CN_OK && c->refuse_out_of_range) s = check_ranges(j, c->dtype);
    const cn_base_target to = {.path = c->out, .single = c->single, .dtype = c->dtype};
    if (s == CN_OK) s = write_base(ctx, b, j, &to);
    if (s == CN_OK && c->single) warn_unsaid(ctx, b, c->out);
    job_close(j);
    cn_base_close(b);
    return s;
}

static cn_status save_control(cn_ctx *ctx, const cn_control_file *control, const job *j,
                              const cn_convert_job *c)
{
    if (c->refuse_out_of_range) CN_TRY(check_ranges(j, c->dtype));
    return write_control(ctx, control, j, c->out, c->single, c->dtype);
}

static cn_status transfer(cn_ctx *ctx, const cn_control_file *control, job *j,
                          const cn_convert_job *c)
{
    int64_t most = 1;
    for (int64_t i = 0; i < cn_params_count(j->params[0]); i++)
        most = CN_MAX(most, cn_param_elements(cn_params_at(j->params[0], i)));
    j->room = cn_alloc_array(ctx, (size_t)most, sizeof *j->room);
    cn_status s = j->room ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = unet_open(ctx, c->from_base, &control->config, &j->from);
    if (s == CN_OK) s = unet_open(ctx, c->to_base, &control->config, &j->to);
    if (s == CN_OK) s = save_control(ctx, control, j, c);
    unet_close(&j->from);
    unet_close(&j->to);
    cn_free(j->room);
    j->room = NULL;
    return s;
}

static cn_status convert_control(cn_ctx *ctx, const cn_convert_job *c)
{
    cn_control_file *control = NULL;
    job *j = NULL;
    cn_status s = cn_control_open(ctx, c->in, &control);
    if (s == CN_OK && control->difference)
        s = cn_fail(ctx, CN_EMISMATCH, "%s: " CN_CONTROL_NO_BASE, c->in);
    if (s == CN_OK && control->form == CN_CONTROL_WHOLE)
        cn_log(ctx, CN_LOG_WARN, "%s: holds a base model too; only the ControlNet is converted",
               c->in);
    if (s == CN_OK) s = job_open_control(ctx, control, &j);
    if (s == CN_OK)
        s = c->from_base ? transfer(ctx, control, j, c) : save_control(ctx, control, j, c);
    job_close(j);
    cn_control_close(control);
    return s;
}

/* Whether `in` holds a ControlNet, else a base model. */
static cn_status is_control(cn_ctx *ctx, const char *in, bool *control)
{
    cn_tensors *t = NULL;
    if (cn_dir_exists(in)) {
        *control = !cn_file_in(in, "unet/config.json") && cn_file_in(in, "config.json");
        return CN_OK;
    }
    CN_TRY(cn_tensors_open(ctx, in, &t));
    cn_content c = cn_content_of(t);
    cn_tensors_close(t);
    *control = c == CN_HOLDS_CONTROL || c == CN_HOLDS_CONTROL_DIFFUSERS || c == CN_HOLDS_WHOLE ||
               c == CN_HOLDS_CONTROL_PREFIXED || c == CN_HOLDS_CONTROL_DIFFERENCE ||
               c == CN_HOLDS_CONTROL_UNION;
    if (*control || c == CN_HOLDS_BASE) return CN_OK;
    return cn_fail(ctx, CN_EMISMATCH,
                   "%s: holds %s%s; a Stable Diffusion base model or a ControlNet can be converted",
                   in, cn_content_name(c), cn_content_note(c));
}

static cn_status check_out(cn_ctx *ctx, const cn_convert_job *c)
{
    CN_TRY(cn_save_dtype_check(ctx, c->dtype));
    if (!c->from_base != !c->to_base)
        return cn_fail(ctx, CN_EINVAL, "a transfer from one base to another: both are expected");
    if (c->single && cn_dir_exists(c->out))
        return cn_fail(ctx, CN_EINVAL,
                       "%s: is a folder; a file's name is expected for a single file", c->out);
    if (!c->single && cn_file_exists(c->out) && !cn_dir_exists(c->out))
        return cn_fail(ctx, CN_EINVAL, "%s: is a file; a folder's name is expected", c->out);
    return CN_OK;
}

cn_status cn_weights_convert(cn_ctx *ctx, cn_backend *be, const cn_convert_job *c)
{
    bool control = c->from_base != NULL;
    CN_TRY(check_out(ctx, c));
    if (!control) CN_TRY(is_control(ctx, c->in, &control));
    if (control && c->vae)
        return cn_fail(ctx, CN_EINVAL, "%s: a ControlNet, which has no VAE to be replaced", c->in);
    return control ? convert_control(ctx, c) : convert_base(ctx, be, c);
}
