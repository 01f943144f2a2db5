/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - opens a base model, a diffusers folder or a single file, and loads its networks.
 *
 * Opening reads configurations only. A folder's weights are opened per network while loading and
 * closed again; a single file stays open as long as the base, since all networks come from it.
 */
#include "model/checkpoint/weights.h"

#include "model/checkpoint/averages.h"
#include "io/checksum.h"
#include "model/checkpoint/base_parts.h"
#include "model/checkpoint/vae_file.h"

#include <string.h>

/* --- folders ---------------------------------------------------------------------------------- */

static cn_status read_schedule(cn_ctx *ctx, const json_t *json, void *out)
{
    return cn_schedule_config_read(ctx, json, out);
}

/* A folder without unet/config.json: says what it is instead. */
static cn_status refuse_folder(cn_ctx *ctx, const char *dir)
{
    if (!cn_file_in(dir, "config.json"))
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: no diffusers model: unet/config.json, vae/config.json and "
                       "text_encoder/config.json are expected",
                       dir);
    json_t *json = NULL;
    CN_TRY(cn_config_load(ctx, dir, "config.json", &json));
    const char *class = cn_json_str(json, "_class_name", "single network");
    cn_status s = cn_fail(ctx, CN_EMISMATCH,
                          "%s: holds a %s, a Stable Diffusion base model (with unet/, vae/ and "
                          "text_encoder/) is expected",
                          dir, class);
    json_decref(json);
    return s;
}

/* SDXL's refiner calls its one text encoder the second. */
static bool has_second_alone(const cn_base *b)
{
    return !cn_file_in(b->path, "text_encoder/config.json") &&
           cn_file_in(b->path, "text_encoder_2/config.json");
}

static cn_status read_network(cn_ctx *ctx, cn_base *b, cn_net net)
{
    char file[64];
    const cn_net_kind *kind = cn_net_kind_of(net);
    const bool second = has_second_alone(b);
    CN_TRY(cn_format(
        ctx, file, sizeof file, "%s/config.json",
        second && net == CN_NET_TEXT ? cn_net_kind_of(cn_net_text(1))->name : kind->name));
    /* Only the first text encoder is there in any case. */
    if (net > CN_NET_TEXT && (second || !cn_file_in(b->path, file))) return CN_OK;
    if (net == CN_NET_VAE && !cn_file_in(b->path, file))
        return cn_fail(ctx, CN_EMISMATCH, "%s: has no vae/config.json; give --vae FILE|DIR",
                       b->path);
    return cn_config_read_in(ctx, b->path, file, kind->read, cn_base_config(b, net));
}

/* What model_index.json says beside which networks there are. */
static cn_status read_index(cn_ctx *ctx, cn_base *b)
{
    json_t *json = NULL;
    if (!cn_file_in(b->path, "model_index.json")) return CN_OK;
    CN_TRY(cn_config_load(ctx, b->path, "model_index.json", &json));
    b->zeros_for_no_negative =
        cn_json_bool(json, "force_zeros_for_empty_prompt", b->zeros_for_no_negative);
    json_decref(json);
    return CN_OK;
}

static cn_status open_folder(cn_ctx *ctx, cn_base *b)
{
    if (!cn_file_in(b->path, "unet/config.json")) return refuse_folder(ctx, b->path);
    for (int net = 0; net < CN_NETS; net++)
        if (cn_net_in_base((cn_net)net) && !(net == CN_NET_VAE && b->other_vae))
            CN_TRY(read_network(ctx, b, (cn_net)net));
    cn_family_settle(b, false);
    CN_TRY(read_index(ctx, b));
    if (cn_file_in(b->path, "scheduler/scheduler_config.json"))
        return cn_config_read_in(ctx, b->path, "scheduler/scheduler_config.json", read_schedule,
                                 &b->schedule);
    cn_schedule_config_default(&b->schedule);
    cn_log(ctx, CN_LOG_WARN,
           "%s: no scheduler/scheduler_config.json; Stable Diffusion 1.x's schedule is used",
           b->path);
    return CN_OK;
}

/* --- single files ----------------------------------------------------------------------------- */

static cn_status refuse_content(cn_ctx *ctx, const cn_base *b, cn_content content)
{
    const char *first =
        cn_tensors_count(b->file) > 0 ? cn_tensors_at(b->file, 0)->name : "no tensors at all";
    if (content == CN_HOLDS_UNKNOWN)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: holds %s (%s, ...), a Stable Diffusion base model is expected", b->path,
                       cn_content_name(content), first);
    return cn_fail(ctx, CN_EMISMATCH, "%s: holds %s%s, a Stable Diffusion base model is expected",
                   b->path, cn_content_name(content), cn_content_note(content));
}

/* By empty tensors, or in the metadata. Inpainting UNets (9 channels) predict the noise. */
static void read_prediction(cn_base *b, const cn_family *f)
{
    const char *said = cn_tensors_metadata(b->file, CN_META_PREDICTION);
    b->schedule.v_prediction = cn_tensors_find(b->file, CN_MARK_V) || (said && said[0] == 'v');
    b->schedule.zero_snr = cn_tensors_find(b->file, CN_MARK_ZERO_SNR) != NULL;
    b->prediction_unknown = f->prediction_open && !b->schedule.v_prediction && !said &&
                            b->unet.in_channels == b->unet.out_channels;
    b->unet.sample_size = b->schedule.v_prediction ? f->sample_size_v : f->sample_size;
}

/* A part of what the file says of itself; its message gets the part's name in front. */
static cn_status read_said(cn_ctx *ctx, const json_t *said, const char *name,
                           cn_status (*read)(cn_ctx *ctx, const json_t *json, void *out), void *out)
{
    const cn_status s = read(ctx, json_object_get(said, name), out);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "metadata " CN_META_CONFIG ", %s", name);
}

static cn_status read_metadata_config(cn_ctx *ctx, cn_base *b, const cn_family *f,
                                      const json_t *said)
{
    for (int i = 0; i < f->n_nets; i++) {
        const cn_net_kind *kind = cn_net_kind_of(f->nets[i].net);
        void *config = cn_base_config(b, f->nets[i].net);
        CN_TRY(read_said(ctx, said, kind->name, kind->read, config));
        if (kind->look) kind->look(b->file, f->nets[i].prefix, config);
    }
    cn_family_settle(b, false);
    return read_said(ctx, said, "scheduler", read_schedule, &b->schedule);
}

static cn_status take_shapes(cn_ctx *ctx, cn_base *b, const cn_family *f)
{
    for (int i = 0; i < f->n_nets; i++)
        if (f->nets[i].net != CN_NET_VAE || !b->other_vae)
            CN_TRY(cn_net_kind_of(f->nets[i].net)
                       ->from_shapes(ctx, b->file, f->nets[i].prefix, CN_LAYOUT_LDM,
                                     cn_base_config(b, f->nets[i].net)));
    f = cn_family_of(b); /* two families may have their networks in the same places */
    cn_family_settle(b, true);
    b->vae.scaling_factor = f->scaling_factor;
    cn_schedule_config_default(&b->schedule);
    b->schedule.spacing = f->spacing;
    read_prediction(b, f);
    return CN_OK;
}

/* Models made of the same parts and more. */
static const struct {
    const char *prefix, *what;
} others[] = {
    {"depth_model.", "a depth-to-image model (depth_model.*), whose UNet takes a depth map beside "
                     "the latent, is not supported; a ControlNet for depth does the same"},
    {"embedder.model.", "an unCLIP model (embedder.model.*), which starts from a picture's "
                        "embedding, is not supported"},
};

/* No family has all its networks in the file: says what the first lacks. */
static cn_status refuse_part(cn_ctx *ctx, const cn_tensors *t)
{
    const cn_family *f = cn_family_at(0);
    int i = 0;
    while (i + 1 < f->n_nets && cn_tensors_have_network(t, f->nets[i].prefix)) i++;
    const bool vae = cn_family_in_file(t, CN_NET_VAE) != NULL;
    return cn_fail(ctx, CN_EMISMATCH, "no %s (%s*) in it; %s",
                   cn_net_kind_of(f->nets[i].net)->title, f->nets[i].prefix,
                   vae ? "give --vae FILE|DIR" : "a whole base model is expected");
}

static cn_status read_single_configs(cn_ctx *ctx, cn_base *b)
{
    const cn_family *f = cn_family_in_file(b->file, b->other_vae ? CN_NET_VAE : CN_NETS);
    json_t *said = NULL;
    for (size_t i = 0; i < CN_COUNT(others); i++)
        if (cn_tensors_have_prefix(b->file, others[i].prefix))
            return cn_fail(ctx, CN_EFORMAT, "%s", others[i].what);
    if (!f) return refuse_part(ctx, b->file);
    CN_TRY(cn_said_config(ctx, b->file, &said));
    const cn_status s = said ? read_metadata_config(ctx, b, f, said) : take_shapes(ctx, b, f);
    json_decref(said);
    return s;
}

static cn_status open_single(cn_ctx *ctx, cn_base *b)
{
    CN_TRY(cn_tensors_open(ctx, b->path, &b->file));
    b->single_file = true;
    cn_content content = cn_content_of(b->file);
    if (content != CN_HOLDS_BASE && content != CN_HOLDS_WHOLE)
        return refuse_content(ctx, b, content);
    cn_status s = read_single_configs(ctx, b);
    if (s == CN_OK && cn_tensors_ema_only(b->file))
        cn_log(ctx, CN_LOG_INFO,
               "%s: holds the averages (EMA) of the UNet's weights alone, which are used", b->path);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", b->path);
}

/* --- the interface ---------------------------------------------------------------------------- */

/* Copies path without slashes at its end. */
static cn_status copy_path(cn_ctx *ctx, const char *path, char *out, size_t cap)
{
    CN_TRY(cn_format(ctx, out, cap, "%s", path));
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/';) out[--n] = 0;
    return CN_OK;
}

/* Before the model, which may then lack its own. */
static cn_status open_other_vae(cn_ctx *ctx, cn_base *b, const char *vae)
{
    if (!vae) return CN_OK;
    return cn_vae_file_open(ctx, vae, &b->other_vae);
}

cn_status cn_base_open_with(cn_ctx *ctx, const char *path, const char *vae, cn_base **out)
{
    cn_base *b = cn_alloc0(ctx, sizeof *b);
    if (!b) return CN_ENOMEM;
    cn_status s = copy_path(ctx, path, b->path, sizeof b->path);
    if (s == CN_OK) s = cn_ranges_create(ctx, &b->ranges);
    if (s == CN_OK) s = open_other_vae(ctx, b, vae);
    if (s == CN_OK) s = cn_dir_exists(b->path) ? open_folder(ctx, b) : open_single(ctx, b);
    if (s == CN_OK && b->other_vae) {
        b->vae = b->other_vae->config;
        if (b->other_vae->guessed) b->vae.scaling_factor = cn_family_of(b)->scaling_factor;
    }
    if (s != CN_OK) {
        cn_base_close(b);
        return s;
    }
    *out = b;
    return CN_OK;
}

cn_status cn_base_open(cn_ctx *ctx, const char *path, cn_base **out)
{
    return cn_base_open_with(ctx, path, NULL, out);
}

void cn_base_close(cn_base *b)
{
    if (!b) return;
    cn_ranges_destroy(b->ranges);
    cn_vae_file_close(b->other_vae);
    cn_tensors_close(b->file);
    cn_free(b);
}

cn_status cn_base_tokenizer(cn_ctx *ctx, const cn_base *b, int k, const char *tokenizer_dir,
                            cn_tokenizer **out)
{
    char own[CN_PATH_BYTES];
    const cn_net net = cn_net_text(k);
    if (tokenizer_dir) {
        CN_TRY(cn_tokenizer_open(ctx, tokenizer_dir, out));
        /* SD 1.x's vocabulary, which serves the others as well, names another token for padding. */
        if (cn_family_find(cn_family_of(b), net)->pads_with_zero) cn_tokenizer_set_pad(*out, 0);
        return CN_OK;
    }
    CN_TRY(cn_format(ctx, own, sizeof own, "%s/%s", b->path, cn_base_kind_of(b, net)->tokenizer));
    if (b->single_file || !cn_dir_exists(own))
        return cn_fail(ctx, CN_EINVAL, "%s: comes without a tokenizer; " CN_TOKENIZER_HINT,
                       b->path);
    return cn_tokenizer_open(ctx, own, out);
}

cn_status cn_base_check_context(cn_ctx *ctx, const cn_base *b)
{
    const int64_t width = cn_base_context_dim(b);
    if (width == b->unet.context_dim) return CN_OK;
    return cn_fail(ctx, CN_EMISMATCH,
                   "%s: the text encoder's features are %lld wide, the UNet expects %lld", b->path,
                   (long long)width, (long long)b->unet.context_dim);
}

cn_status cn_base_source(cn_ctx *ctx, const cn_base *b, cn_net net, char path[CN_PATH_BYTES],
                         cn_tensors **opened, cn_source *out)
{
    const cn_family_net *own = cn_family_find(cn_family_of(b), net);
    *opened = NULL;
    if (!own) return cn_fail(ctx, CN_EINTERNAL, "%s: has no such network", b->path);
    if (net == CN_NET_VAE && b->other_vae) {
        const cn_vae_file *v = b->other_vae;
        *out =
            (cn_source){.file = v->file, .path = v->path, .prefix = v->prefix, .layout = v->layout};
        return CN_OK;
    }
    if (b->single_file) {
        *out = (cn_source){
            .file = b->file, .path = b->path, .prefix = own->prefix, .layout = CN_LAYOUT_LDM};
        return CN_OK;
    }
    char dir[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, dir, sizeof dir, "%s/%s", b->path, cn_base_kind_of(b, net)->name));
    CN_TRY(cn_weights_open(ctx, dir, path, opened));
    *out = (cn_source){.file = *opened, .path = path, .prefix = "", .layout = CN_LAYOUT_DIFFUSERS};
    return CN_OK;
}

cn_status cn_base_dtype(cn_ctx *ctx, const cn_base *b, cn_net net, cn_dtype *out)
{
    char path[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    cn_source s;
    CN_TRY(cn_base_source(ctx, b, net, path, &opened, &s));
    *out = cn_source_dtype(&s);
    cn_tensors_close(opened);
    return CN_OK;
}

cn_status cn_base_identity(cn_ctx *ctx, const cn_base *b, cn_net net, uint64_t *out)
{
    char path[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    cn_source s = {0};
    CN_TRY(cn_base_source(ctx, b, net, path, &opened, &s));
    *out = cn_file_key(s.path);
    cn_tensors_close(opened);
    return CN_OK;
}

static cn_status sum_values(cn_ctx *ctx, const cn_source *s, const cn_param *q, const cn_place *at,
                            uint32_t *crc)
{
    size_t n = 1;
    for (int i = 0; i < q->ndim; i++) n *= (size_t)q->shape[i];
    float *values = cn_alloc_array(ctx, n, sizeof *values);
    const cn_status status = values ? cn_place_read(ctx, s, at, values) : CN_ENOMEM;
    if (status == CN_OK) *crc = cn_crc32(values, n * sizeof *values);
    cn_free(values);
    return status;
}

static cn_status sum_weights(cn_ctx *ctx, const cn_source *s, const cn_params *p, uint64_t *out)
{
    cn_place *list = NULL;
    CN_TRY(cn_source_resolve(ctx, s, p, &list));
    cn_status status = CN_OK;
    for (int64_t i = 0; status == CN_OK && i < cn_params_count(p); i++) {
        uint64_t both[2] = {*out, 0};
        uint32_t crc = 0;
        status = cn_cancelled(ctx)
                     ? cn_fail(ctx, CN_ECANCELLED, "cancelled while reading %s", s->path)
                     : sum_values(ctx, s, cn_params_at(p, i), &list[i], &crc);
        both[1] = crc;
        *out = cn_hash64(both, sizeof both);
    }
    cn_free(list);
    return status;
}

cn_status cn_base_fingerprint(cn_ctx *ctx, const cn_base *b, cn_net net, uint64_t *out)
{
    char path[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    cn_params *declared = NULL;
    cn_source s = {0};
    const char *family = cn_family_of(b)->name;
    uint64_t sum = cn_hash64(family, strlen(family));
    CN_TRY(cn_base_source(ctx, b, net, path, &opened, &s));
    cn_status status = cn_net_declare(ctx, net, cn_base_config_of(b, net), &declared);
    if (status == CN_OK) status = sum_weights(ctx, &s, declared, &sum);
    cn_params_destroy(declared);
    cn_tensors_close(opened);
    if (status == CN_OK) *out = sum;
    return status;
}

cn_status cn_base_keep_ranges(cn_ctx *ctx, const cn_base *b, cn_params *p)
{
    char path[CN_PATH_BYTES];
    const cn_net net = cn_params_net(p);
    cn_tensors *opened = NULL;
    cn_params *declared = NULL;
    cn_source s;
    cn_status status = cn_base_source(ctx, b, net, path, &opened, &s);
    if (status == CN_OK && cn_ranges_matter(&s, cn_params_storage(p))) {
        status = cn_net_declare(ctx, net, cn_base_config_of(b, net), &declared);
        if (status == CN_OK) status = cn_ranges_apply(ctx, b->ranges, &s, declared, p);
    }
    cn_params_destroy(declared);
    cn_tensors_close(opened);
    return status;
}

cn_dtype cn_locked_type(cn_dtype compute, cn_dtype in_file)
{
    return compute == CN_BF16 ? CN_BF16 : in_file;
}

cn_status cn_base_params_create_as(cn_ctx *ctx, const cn_base *b, cn_net net, cn_dtype compute,
                                   cn_dtype storage, cn_params **out)
{
    CN_TRY(cn_net_params(ctx, net, out));
    cn_params_set_compute(*out, compute);
    cn_params_set_storage(*out, storage);
    const cn_status s = cn_base_keep_ranges(ctx, b, *out);
    if (s == CN_OK) return CN_OK;
    cn_params_destroy(*out);
    *out = NULL;
    return s;
}

cn_status cn_base_params_create(cn_ctx *ctx, const cn_base *b, cn_net net, cn_dtype compute,
                                cn_params **out)
{
    cn_dtype in_file;
    CN_TRY(cn_base_dtype(ctx, b, net, &in_file));
    return cn_base_params_create_as(ctx, b, net, compute, cn_locked_type(compute, in_file), out);
}

cn_status cn_base_load(cn_ctx *ctx, const cn_base *b, cn_backend *be, cn_params *p)
{
    char path[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    cn_source s;
    CN_TRY(cn_base_source(ctx, b, cn_params_net(p), path, &opened, &s));
    s.loras = b->loras;
    cn_status status = cn_source_load(ctx, &s, be, p);
    cn_tensors_close(opened);
    return status;
}
