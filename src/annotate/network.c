/* SPDX-License-Identifier: Apache-2.0 */
/* network.c - which network a file of weights holds, told by its tensors' names, and its parameters
 * from it. */
#include "annotate/network.h"

#include "model/checkpoint/source.h"

#include <stdio.h>

static bool has_sign(const cn_tensors *t, const char *prefix, const cn_network_sign *sign)
{
    char name[CN_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s%s", prefix, sign->tensor);
    const cn_tensor_info *info = cn_tensors_find(t, name);
    return info && (!sign->rows || (info->ndim > 0 && info->shape[0] == sign->rows));
}

bool cn_network_is_in(const cn_network *net, const cn_tensors *file, const char **prefix)
{
    static const char *const prefixes[] = {"", "module."};
    for (size_t i = 0; i < CN_COUNT(prefixes); i++) {
        bool all = true;
        for (int k = 0; k < CN_NETWORK_SIGNS && net->signs[k].tensor; k++)
            all &= has_sign(file, prefixes[i], &net->signs[k]);
        *prefix = prefixes[i];
        if (all) return true;
    }
    return false;
}

const cn_network *cn_network_of(const cn_tensors *file)
{
    const char *prefix;
    for (int i = 0; i < cn_kind_count(); i++)
        for (int k = 0; k < CN_KIND_NETWORKS && cn_kind_at(i)->networks[k].net; k++)
            if (cn_network_is_in(cn_kind_at(i)->networks[k].net, file, &prefix))
                return cn_kind_at(i)->networks[k].net;
    return NULL;
}

cn_status cn_network_load(cn_ctx *ctx, const cn_network *net, const cn_tensors *file,
                          const char *path, cn_backend *b, cn_params *p)
{
    const char *prefix;
    if (!cn_network_is_in(net, file, &prefix))
        return cn_fail(ctx, CN_EMISMATCH, "%s: doesn't hold %s", path, net->name);
    return cn_source_load(
        ctx,
        &(cn_source){.file = file, .path = path, .prefix = prefix, .layout = CN_LAYOUT_DIFFUSERS},
        b, p);
}
