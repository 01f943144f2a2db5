/* SPDX-License-Identifier: Apache-2.0 */
/* networks.c - a pipeline's parameter sets: what the networks compute in, how their weights are
 * kept.
 *
 * Text encoder, UNet, ControlNets and VAE compute in one type; each keeps its weights in the type
 * its own file has, unless one is asked for.
 */
#include "pipeline/pipeline_internal.h"

#include <string.h>

void cn_params_unload(cn_params **params)
{
    cn_params_destroy(*params);
    *params = NULL;
}

bool cn_params_loaded(const cn_params *params)
{
    for (int64_t i = 0; i < cn_params_count(params); i++)
        if (!cn_params_at(params, i)->loaded) return false;
    return true;
}

static cn_status find_precision(cn_pipeline *p, const char *name, cn_dtype *out)
{
    cn_ctx *ctx = p->ctx;
    *out = CN_F32;
    if (!name || !strcmp(name, "f32")) return CN_OK;
    if (!strcmp(name, "f16")) {
        if ((p->halves = p->backend->multiply_in(p->backend, CN_F16))) return CN_OK;
        return cn_fail(ctx, CN_EINVAL,
                       "precision f16: a --device multiplies it, the processor doesn't; f32, and "
                       "where it can bf16, are possible");
    }
    bool can = p->backend->computes(p->backend, CN_BF16);
    if (!strcmp(name, "bf16") && !can && !p->backend->addressable)
        return cn_fail(ctx, CN_EINVAL, "precision bf16: a %s device computes in f32 or f16",
                       p->backend->name);
    if (!strcmp(name, "bf16") && !can)
        return cn_fail(
            ctx, CN_EINVAL,
            "precision bf16: this processor has no bfloat16 arithmetic (AVX512_BF16), or oneDNN "
            "was told not to use it; f32 is possible");
    if (can) *out = CN_BF16;
    return CN_OK;
}

cn_status cn_pipeline_precision(cn_pipeline *p, const cn_pipeline_options *o)
{
    cn_fit *f = &p->asked;
    *f = (cn_fit){.bits = {32, 32, 32, 32}, .keep = o->keep_loaded};
    CN_TRY(find_precision(p, o->precision, &f->compute));
    f->storage_auto = !o->weight_type || !strcmp(o->weight_type, "auto");
    if (f->storage_auto) return CN_OK;
    if (cn_storage_type_find(o->weight_type, &f->storage)) return CN_OK;
    return cn_fail(p->ctx, CN_EINTERNAL, "no weights are kept as %s", o->weight_type);
}

static int group_of(cn_net net)
{
    if (net == CN_NET_VISION) return CN_GROUP_IMAGE;
    return net == CN_NET_VAE ? CN_GROUP_VAE : net >= CN_NET_TEXT ? CN_GROUP_TEXT : CN_GROUP_DRAWING;
}

/* As its file has it, or in fewer bits; the VAE, whose share is small and whose errors are seen,
 * never in 8. */
static cn_status storage_of(const cn_pipeline *p, const cn_fit *f, cn_net net, int k, cn_dtype *out)
{
    const int bits = f->bits[group_of(net)];
    if (net == CN_NET_CONTROL && p->controls[k]->kind->small) {
        *out = CN_F32;
        return CN_OK;
    }
    *out = f->storage;
    if (!f->storage_auto && (*out != CN_Q8 || group_of(net) != CN_GROUP_VAE)) return CN_OK;
    if (net == CN_NET_CONTROL)
        *out = cn_control_dtype(p->controls[k]);
    else if (net == CN_NET_VISION)
        *out = cn_vision_file_dtype(p->vision);
    else
        CN_TRY(cn_base_dtype(p->ctx, p->base, net, out));
    *out = cn_locked_type(f->compute, *out);
    if ((bits < 32 || !f->storage_auto) && *out == CN_F32) *out = CN_F16;
    if (bits < 16) *out = CN_Q8;
    return CN_OK;
}

/* Of several, the second is "controlnet2" in traces and dumps. */
static cn_status label_control(const cn_pipeline *p, int k, cn_params *params)
{
    char label[32];
    if (k == 0) return CN_OK;
    CN_TRY(cn_format(p->ctx, label, sizeof label, "%s%d", cn_params_network(params), k + 1));
    return cn_params_set_label(params, label);
}

cn_status cn_pipeline_network(cn_pipeline *p, const cn_fit *fit, cn_net net, int k, cn_params **out)
{
    cn_dtype storage;
    CN_TRY(storage_of(p, fit, net, k, &storage));
    if (net == CN_NET_CONTROL)
        CN_TRY(cn_params_create(p->ctx, p->controls[k]->kind->network, out));
    else
        CN_TRY(cn_net_params(p->ctx, net, out));
    cn_params_set_compute(*out, fit->compute);
    cn_params_set_storage(*out, storage);
    cn_status s = net == CN_NET_CONTROL ? label_control(p, k, *out) : CN_OK;
    if (s == CN_OK)
        s = net == CN_NET_CONTROL  ? cn_control_keep_ranges(p->ctx, p->controls[k], *out)
            : net == CN_NET_VISION ? cn_vision_file_keep_ranges(p->ctx, p->vision, *out)
                                   : cn_base_keep_ranges(p->ctx, p->base, *out);
    if (s != CN_OK) cn_params_unload(out);
    return s;
}
