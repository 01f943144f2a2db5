/* SPDX-License-Identifier: Apache-2.0 */
/* plain_weights.c - see plain_weights.h. */
#include "pretrain/plain_weights.h"

#include "io/tensors.h"

#include <string.h>

typedef struct source {
    cn_ctx *ctx;
    cn_backend *be;
    const cn_params *p;
} source;

static cn_status read_weight(void *user, int64_t i, float *out)
{
    const source *s = user;
    const cn_param *q = cn_params_at(s->p, i);
    return s->be->to_plain(s->be, s->ctx, q, CN_F32, q->data, out);
}

cn_status cn_plain_weights_write(cn_ctx *ctx, cn_backend *be, const cn_params *p, const char *path)
{
    const int64_t n = cn_params_count(p);
    source from = {ctx, be, p};
    cn_tensor_out *list = cn_alloc0(ctx, (size_t)CN_MAX(n, 1) * sizeof *list);
    if (!list) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        const cn_param *q = cn_params_at(p, i);
        list[i] = (cn_tensor_out){.name = q->diffusers_name, .dtype = CN_F32, .ndim = q->ndim};
        memcpy(list[i].shape, q->shape, sizeof q->shape);
    }
    const cn_status s = cn_safetensors_write(ctx, path, list, n, read_weight, &from, NULL);
    cn_free(list);
    return s;
}

/* Elements are compared, not dimensions: linear layers were 1x1 convolutions in older files. */
static cn_status read_param(cn_ctx *ctx, cn_backend *be, const char *path, const cn_tensors *t,
                            cn_param *q)
{
    const cn_tensor_info *info = cn_tensors_find(t, q->diffusers_name);
    if (!info || info->elements != cn_param_elements(q))
        return cn_fail(ctx, CN_EMISMATCH, "%s: no fitting %s", path, q->diffusers_name);
    float *plain = cn_alloc_array(ctx, (size_t)cn_param_elements(q), sizeof *plain);
    if (!plain) return CN_ENOMEM;
    cn_status s = cn_tensors_read(ctx, t, info, plain);
    if (s == CN_OK) s = cn_param_set(be, ctx, q, plain);
    cn_free(plain);
    return s;
}

cn_status cn_plain_weights_read(cn_ctx *ctx, cn_backend *be, const char *path, cn_params *p)
{
    cn_tensors *t = NULL;
    cn_status s = CN_OK;
    CN_TRY(cn_tensors_open(ctx, path, &t));
    for (int64_t i = 0; s == CN_OK && i < cn_params_count(p); i++)
        s = read_param(ctx, be, path, t, cn_params_at(p, i));
    cn_tensors_close(t);
    return s;
}
