/* SPDX-License-Identifier: Apache-2.0 */
/* trained_kinds.c - see trained_kinds.h. Sources: diffusers' train_controlnet_sdxl.py and
 * train_t2i_adapter_sdxl.py, kohya's sdxl_train_control_net_lllite.py; of Control-LoRAs and Unions
 * no training code is published: they are made as ControlNets are, from the base's encoder. */
#include "train/trained_kinds.h"

#include "diffuse/sampling.h"
#include "model/checkpoint/base_parts.h"
#include "model/checkpoint/control_parts.h"

#include <string.h>

/* --- ControlNets ------------------------------------------------------------------------------ */

/* diffusers' hint network, which shrinks the condition as the VAE does the picture. */
static cn_status make_net(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                          cn_trained_net *out)
{
    static const int64_t hint[] = {16, 32, 96, 256};
    cn_controlnet_config *c = &out->net;
    const int levels = b->vae.levels;
    (void)o;
    if (levels < 2 || levels > (int)CN_COUNT(hint))
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: its VAE has %d levels; a ControlNet's hint network is known for 2 to "
                       "%d of them",
                       b->path, levels, (int)CN_COUNT(hint));
    *c = (cn_controlnet_config){.encoder = b->unet, .condition_channels = 3, .hint_levels = levels};
    c->encoder.guidance_dim = 0;
    for (int i = 0; i < levels; i++) c->hint_channels[i] = hint[i];
    return CN_OK;
}

/* As ComfyUI knows SDXL's (comfy/model_detection.py): without attention at any level and without
 * transformer layers in the middle. */
static cn_status make_small(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                            cn_trained_net *out)
{
    CN_TRY(make_net(ctx, b, o, out));
    cn_unet_config *e = &out->net.encoder;
    for (int i = 0; i < e->levels; i++) {
        e->attention[i] = false;
        e->transformer_layers[i] = i + 1 < e->levels;
    }
    return CN_OK;
}

/* The same source: one transformer layer at the lowest level that attends, and in the middle. */
static cn_status make_mid(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                          cn_trained_net *out)
{
    CN_TRY(make_net(ctx, b, o, out));
    cn_unet_config *e = &out->net.encoder;
    int lowest = e->levels - 1;
    while (lowest > 0 && !e->attention[lowest]) lowest--;
    for (int i = 0; i < e->levels; i++) {
        e->attention[i] = e->attention[i] && i == lowest;
        e->transformer_layers[i] = 1;
    }
    return CN_OK;
}

/* As many types as xinsir's ProMax has; SD 1.x, whose networks take no sizes, gets SDXL's width of
 * each number. */
static cn_status make_union(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                            cn_trained_net *out)
{
    enum { TYPES = 8, HEADS = 8, NUMBER = 256 };
    CN_TRY(make_net(ctx, b, o, out));
    cn_controlnet_config *c = &out->net;
    c->union_types = TYPES;
    c->union_layers = 1;
    c->union_heads = HEADS;
    while (c->encoder.channels[0] % c->union_heads) c->union_heads /= 2;
    if (!c->encoder.added_number_dim) c->encoder.added_number_dim = NUMBER;
    return CN_OK;
}

static bool is_net(cn_ctx *ctx, const cn_base *b, const cn_control_file *f)
{
    (void)ctx, (void)b;
    return f->kind == &cn_control_kind_net && !f->low_rank && !f->config.union_types;
}

/* Whether the file's encoder attends where the one of this form does. */
static bool has_form(cn_ctx *ctx, const cn_base *b, const cn_control_file *f,
                     cn_status (*make)(cn_ctx *, const cn_base *, const cn_train_options *,
                                       cn_trained_net *))
{
    cn_trained_net form = {0};
    if (!is_net(ctx, b, f) || make(ctx, b, NULL, &form) != CN_OK) return false;
    const cn_unet_config *x = &f->config.encoder, *y = &form.net.encoder;
    bool same = true;
    for (int i = 0; i < x->levels; i++) {
        same = same && x->attention[i] == y->attention[i];
        if (x->attention[i] || i + 1 == x->levels)
            same = same && x->transformer_layers[i] == y->transformer_layers[i];
    }
    return same;
}

static bool is_small(cn_ctx *ctx, const cn_base *b, const cn_control_file *f)
{
    return has_form(ctx, b, f, make_small);
}

static bool is_mid(cn_ctx *ctx, const cn_base *b, const cn_control_file *f)
{
    return has_form(ctx, b, f, make_mid);
}

static bool is_union(cn_ctx *ctx, const cn_base *b, const cn_control_file *f)
{
    (void)ctx, (void)b;
    return f->kind == &cn_control_kind_net && f->config.union_types > 0;
}

static bool is_low_rank(cn_ctx *ctx, const cn_base *b, const cn_control_file *f)
{
    (void)ctx, (void)b;
    return f->low_rank;
}

static cn_status save_net(cn_ctx *ctx, cn_backend *be, const cn_trained_net *t, const cn_params *p,
                          const char *dir, const char *file, const char *const *more)
{
    CN_TRY(cn_control_save_folder(ctx, be, &t->net, p, CN_F32, dir, more));
    return cn_control_save_single(ctx, be, &t->net, p, CN_F32, file, more);
}

static cn_status save_low_rank(cn_ctx *ctx, cn_backend *be, const cn_trained_net *t,
                               const cn_params *p, const char *dir, const char *file,
                               const char *const *more)
{
    const cn_remarks remarks = {.more = more, .marks = {CN_MARK_CONTROL_LORA}};
    (void)t, (void)dir;
    return cn_params_write(ctx, be, p, CN_LAYOUT_LDM, CN_F32, &remarks, file);
}

/* --- ControlNet-LLLite ------------------------------------------------------------------------ */

enum { LLLITE_NARROW = 64 };

static cn_status make_lllite(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                             cn_trained_net *out)
{
    const int64_t hidden = o->network_dim ? o->network_dim : LLLITE_NARROW;
    return cn_lllite_config_make(ctx, &b->unet, o->cond_emb_dim, hidden, &out->lllite);
}

static bool is_lllite(cn_ctx *ctx, const cn_base *b, const cn_control_file *f)
{
    (void)ctx, (void)b;
    return f->kind == &cn_control_kind_lllite;
}

static cn_status save_lllite(cn_ctx *ctx, cn_backend *be, const cn_trained_net *t,
                             const cn_params *p, const char *dir, const char *file,
                             const char *const *more)
{
    const cn_remarks remarks = {.more = more};
    (void)t, (void)dir;
    return cn_params_write(ctx, be, p, CN_LAYOUT_LDM, CN_F32, &remarks, file);
}

/* --- T2I-Adapter ------------------------------------------------------------------------------ */

static cn_status make_adapter(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                              cn_trained_net *out)
{
    (void)o;
    return cn_adapter_config_make(ctx, &b->unet, &out->adapter);
}

static bool is_adapter(cn_ctx *ctx, const cn_base *b, const cn_control_file *f)
{
    (void)ctx, (void)b;
    return f->kind == &cn_control_kind_adapter;
}

static cn_status save_adapter(cn_ctx *ctx, cn_backend *be, const cn_trained_net *t,
                              const cn_params *p, const char *dir, const char *file,
                              const char *const *more)
{
    const cn_remarks remarks = {.more = more};
    char path[CN_PATH_BYTES];
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(
        cn_format(ctx, path, sizeof path, "%s/%s", dir, cn_net_kind_of(CN_NET_CONTROL)->weights));
    CN_TRY(cn_params_write(ctx, be, p, CN_LAYOUT_DIFFUSERS, CN_F32, &remarks, path));
    CN_TRY(cn_config_save(ctx, dir, "config.json", cn_adapter_config_json(&t->adapter)));
    return cn_params_write(ctx, be, p, CN_LAYOUT_LDM, CN_F32, &remarks, file);
}

/* --- the table -------------------------------------------------------------------------------- */

static const cn_trained_kind kinds[] = {
    {.name = "controlnet",
     .title = "ControlNet",
     .joins = &cn_control_kind_net,
     .make = make_net,
     .is = is_net,
     .copies = true,
     .links = true,
     .save = save_net},
    {.name = "controlnet-mid",
     .title = "mid-sized ControlNet",
     .joins = &cn_control_kind_net,
     .make = make_mid,
     .is = is_mid,
     .copies = true,
     .links = true,
     .save = save_net},
    {.name = "controlnet-small",
     .title = "small ControlNet",
     .joins = &cn_control_kind_net,
     .make = make_small,
     .is = is_small,
     .copies = true,
     .links = true,
     .save = save_net},
    {.name = "control-lora",
     .title = "Control-LoRA",
     .joins = &cn_control_kind_net,
     .make = make_net,
     .is = is_low_rank,
     .copies = true,
     .low_rank = true,
     .narrow = 128,
     .links = true,
     .save = save_low_rank},
    {.name = "lllite",
     .title = "ControlNet-LLLite",
     .joins = &cn_control_kind_lllite,
     .make = make_lllite,
     .is = is_lllite,
     .narrow = LLLITE_NARROW,
     .save = save_lllite},
    {.name = "t2i-adapter",
     .title = "T2I-Adapter",
     .joins = &cn_control_kind_adapter,
     .make = make_adapter,
     .is = is_adapter,
     .save = save_adapter},
    {.name = "union",
     .title = "ControlNet Union",
     .joins = &cn_control_kind_net,
     .make = make_union,
     .is = is_union,
     .copies = true,
     .links = true,
     .save = save_net},
};

const char *const cn_trained_kind_words[] = {"controlnet",
                                             "controlnet-mid",
                                             "controlnet-small",
                                             "control-lora",
                                             "lllite",
                                             "t2i-adapter",
                                             "union",
                                             NULL};
_Static_assert(CN_COUNT(cn_trained_kind_words) == CN_COUNT(kinds) + 1, "a word for each row");

/* --- what is asked for ------------------------------------------------------------------------ */

/* A file to start from: of the named kind, else the first that it is. */
static cn_status open_start(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                            cn_trained_net *t)
{
    CN_TRY(cn_control_open_any(ctx, o->controlnet, &t->start));
    const cn_status s = cn_control_join(ctx, t->start, b);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", o->controlnet);
    for (size_t i = 0; !t->kind && i < CN_COUNT(kinds); i++)
        if (kinds[i].is(ctx, b, t->start)) t->kind = &kinds[i];
    if (!t->kind || !t->kind->is(ctx, b, t->start))
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: holds a %s, not of the form that --control-kind %s asks for",
                       o->controlnet, t->start->low_rank ? "Control-LoRA" : t->start->kind->title,
                       o->control_kind ? o->control_kind : "controlnet");
    t->net = t->start->config;
    t->adapter = t->start->adapter;
    if (!t->start->lllite) return CN_OK;
    const size_t bytes =
        sizeof *t->lllite + (size_t)t->start->lllite->n * sizeof *t->lllite->modules;
    if (!(t->lllite = cn_alloc(ctx, bytes))) return CN_ENOMEM;
    memcpy(t->lllite, t->start->lllite, bytes);
    return CN_OK;
}

/* What a file may have that isn't trained. */
static cn_status check_start(cn_ctx *ctx, const cn_base *b, const cn_trained_net *t)
{
    const cn_controlnet_config *c = &t->net;
    if (!t->start || t->kind->joins != &cn_control_kind_net) return CN_OK;
    if (c->hint_levels != b->vae.levels)
        return cn_fail(ctx, CN_EMISMATCH, "its hint network has %d levels, the base's VAE %d",
                       c->hint_levels, b->vae.levels);
    if (c->condition_channels != 3)
        return cn_fail(ctx, CN_EMISMATCH, "its condition has %lld channels; RGB (3) is expected",
                       (long long)c->condition_channels);
    if (c->global_pool)
        return cn_fail(
            ctx, CN_EMISMATCH,
            "averages its residuals over the picture (Shuffle); such a ControlNet can be "
            "drawn with, not trained");
    return CN_OK;
}

static cn_status find_type(cn_ctx *ctx, const cn_train_options *o, cn_trained_net *t)
{
    const int known = t->net.union_types;
    cn_str list = {0};
    if (o->control_type && (t->type = cn_union_type(o->control_type, known)) >= 0) return CN_OK;
    cn_union_types_list(known, &list);
    const cn_status s = cn_fail(ctx, CN_EINVAL,
                                "--control-type%s%s: a ControlNet Union wants to know what the "
                                "data's conditions show, one of %s",
                                o->control_type ? " " : "", o->control_type ? o->control_type : "",
                                list.data ? list.data : "its types");
    cn_str_free(&list);
    return s;
}

/* What has a meaning for some kinds alone. */
static cn_status check_options(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                               const cn_trained_net *t)
{
    const cn_trained_kind *k = t->kind;
    if (o->only_mid_control && !k->links)
        return cn_fail(
            ctx, CN_EINVAL,
            "--only-mid-control leaves out a ControlNet's links to the decoder, of which "
            "a %s has none",
            k->title);
    if (o->unlock && !strcmp(o->unlock, "all") && k->low_rank)
        return cn_fail(
            ctx, CN_EINVAL,
            "--unlock all changes the weights that a %s is a change of; --unlock decoder "
            "is possible",
            k->title);
    if (o->control_type && !t->net.union_types)
        return cn_fail(ctx, CN_EINVAL, "--control-type is for --control-kind union, not for a %s",
                       k->title);
    if (o->network_dim && (!k->narrow || t->start))
        return cn_fail(ctx, CN_EINVAL,
                       "--network-dim is the width of a new Control-LoRA's or ControlNet-LLLite's "
                       "narrow layers%s",
                       t->start ? "; a file that is gone on from has its own" : "");
    if (k->joins->fill && cn_vae_factor(&b->vae) != 8)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: a %s is for a VAE that makes 8 pixels a side one; this one makes %lld",
                       b->path, k->title, (long long)cn_vae_factor(&b->vae));
    return CN_OK;
}

cn_status cn_trained_open(cn_ctx *ctx, const cn_base *b, const cn_train_options *o,
                          cn_trained_net *out)
{
    int i = 0;
    *out = (cn_trained_net){0};
    if (o->control_kind) {
        CN_TRY(cn_word_find(ctx, "control-kind", o->control_kind, cn_trained_kind_words, &i));
        out->kind = &kinds[i];
    } else if (!o->controlnet)
        out->kind = &kinds[0];
    if (o->controlnet)
        CN_TRY(open_start(ctx, b, o, out));
    else
        CN_TRY(out->kind->make(ctx, b, o, out));
    const cn_status s = check_start(ctx, b, out);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", o->controlnet);
    out->rank = o->network_dim ? o->network_dim : out->kind->narrow;
    CN_TRY(check_options(ctx, b, o, out));
    return out->net.union_types ? find_type(ctx, o, out) : CN_OK;
}

void cn_trained_close(cn_trained_net *t)
{
    cn_control_close(t->start);
    cn_free(t->lllite);
    *t = (cn_trained_net){0};
}

/* --- its parameters --------------------------------------------------------------------------- */

cn_draw_control cn_trained_control(const cn_trained_net *t, cn_params *p)
{
    const cn_control_kind *k = t->kind->joins;
    const void *config = k == &cn_control_kind_adapter  ? (const void *)&t->adapter
                         : k == &cn_control_kind_lllite ? (const void *)t->lllite
                                                        : &t->net;
    return (cn_draw_control){
        .kind = k, .config = config, .params = p, .condition = {.n = 1, .types = {t->type}}};
}

/* The ranks of a file, which differ from layer to layer. */
static int64_t rank_in_file(const void *user, const char *ldm_name)
{
    char name[CN_NAME_MAX + 8];
    const cn_control_file *f = user;
    snprintf(name, sizeof name, "%s.down", ldm_name);
    const cn_tensor_info *down = cn_tensors_find(f->file, name);
    return down && down->ndim >= 2 ? down->shape[0] : 0;
}

cn_status cn_trained_params(cn_ctx *ctx, const cn_trained_net *t, cn_params *unet, cn_dtype compute,
                            cn_low_rank *low, cn_params **out)
{
    CN_TRY(cn_params_create(ctx, t->kind->joins->network, out));
    cn_params_set_compute(*out, compute);
    cn_params_set_trainable(*out, true);
    if (!t->kind->low_rank) return CN_OK;
    *low = (cn_low_rank){.base = unet, .rank = t->rank};
    if (t->start) {
        low->of = rank_in_file;
        low->user = t->start;
    }
    cn_params_set_low_rank(*out, low);
    return CN_OK;
}

/* A file's values: of a kind of low rank its narrow matrices, not what they make with the base. */
static cn_status load_file(cn_ctx *ctx, const cn_trained_net *t, const cn_control_file *f,
                           cn_backend *be, cn_params *p)
{
    const cn_source s = cn_control_source(f);
    return t->kind->low_rank ? cn_source_load(ctx, &s, be, p) : cn_control_load(ctx, f, be, p);
}

cn_status cn_trained_init(cn_ctx *ctx, const cn_trained_net *t, const cn_base *b, cn_backend *be,
                          cn_params *p, uint64_t seed)
{
    if (t->start) return load_file(ctx, t, t->start, be, p);
    return t->kind->copies ? cn_control_init_from_base(ctx, be, b, p, seed)
                           : cn_params_init(ctx, be, p, seed);
}

/* --- files ------------------------------------------------------------------------------------ */

cn_status cn_trained_save(cn_ctx *ctx, cn_backend *be, const cn_trained_net *t, const cn_params *p,
                          const char *dir, const char *const *more)
{
    char file[CN_PATH_BYTES];
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(cn_format(ctx, file, sizeof file, "%s/" CN_TRAINED_FILE, dir));
    return t->kind->save(ctx, be, t, p, dir, file, more);
}

cn_status cn_trained_load(cn_ctx *ctx, const cn_trained_net *t, const cn_base *b, cn_backend *be,
                          const char *dir, cn_params *p)
{
    char file[CN_PATH_BYTES];
    cn_control_file *f = NULL;
    CN_TRY(cn_format(ctx, file, sizeof file, "%s/" CN_TRAINED_FILE, dir));
    CN_TRY(cn_control_open_any(ctx, file, &f));
    cn_status s = t->kind->is(ctx, b, f)
                      ? CN_OK
                      : cn_fail(ctx, CN_EMISMATCH, "%s: holds no %s, which is trained now", file,
                                t->kind->title);
    if (s == CN_OK) s = load_file(ctx, t, f, be, p);
    cn_control_close(f);
    return s;
}
