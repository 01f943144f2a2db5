/* SPDX-License-Identifier: Apache-2.0 */
/* averages.c - see averages.h. */
#include "model/checkpoint/averages.h"

#include <stdio.h>
#include <string.h>

bool cn_tensors_ema_only(const cn_tensors *t)
{
    return cn_tensors_find(t, CN_PREFIX_EMA "input_blocks00weight") &&
           !cn_tensors_have_prefix(t, CN_PREFIX_UNET);
}

const cn_tensor_info *cn_tensors_find_in(const cn_tensors *t, const char *prefix, const char *name)
{
    char full[1024];
    int n = snprintf(full, sizeof full, "%s%s", prefix, name);
    if (n < 0 || (size_t)n >= sizeof full) return NULL;
    const cn_tensor_info *found = cn_tensors_find(t, full);
    if (found || strcmp(prefix, CN_PREFIX_UNET) != 0 || !cn_tensors_ema_only(t)) return found;
    n = snprintf(full, sizeof full, "%s", CN_PREFIX_EMA);
    for (; *name && (size_t)n + 1 < sizeof full; name++)
        if (*name != '.') full[n++] = *name;
    full[n] = 0;
    return cn_tensors_find(t, full);
}

bool cn_tensors_have_network(const cn_tensors *t, const char *prefix)
{
    if (cn_tensors_have_prefix(t, prefix)) return true;
    return !strcmp(prefix, CN_PREFIX_UNET) && cn_tensors_ema_only(t);
}

bool cn_tensor_is_in(const cn_tensors *t, const char *prefix, const char *name)
{
    if (!strncmp(name, prefix, strlen(prefix))) return true;
    return !strcmp(prefix, CN_PREFIX_UNET) &&
           !strncmp(name, CN_PREFIX_EMA, strlen(CN_PREFIX_EMA)) && cn_tensors_ema_only(t);
}
