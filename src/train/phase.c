/* SPDX-License-Identifier: Apache-2.0 */
/* phase.c - see phase.h. */
#include "train/phase.h"

#include <string.h>

const char *const cn_unlock_words[] = {"none", "decoder", "all", NULL};

cn_status cn_unlock_find(cn_ctx *ctx, const char *word, cn_unlock *out)
{
    int i;
    CN_TRY(cn_word_find(ctx, "unlock", word, cn_unlock_words, &i));
    *out = (cn_unlock)i;
    return CN_OK;
}

const char *cn_unlock_word(cn_unlock unlock)
{
    return cn_unlock_words[unlock];
}

cn_phase cn_phase_at(const cn_train_options *o, int64_t step)
{
    cn_phase p = {.only_mid = o->only_mid_control};
    if (o->reconnect_after > 0 && step >= o->reconnect_after) p.only_mid = false;
    if (step >= o->unlock_after && cn_unlock_find(NULL, o->unlock, &p.unlock) != CN_OK)
        p.unlock = CN_UNLOCK_NONE;
    return p;
}

bool cn_phase_same(cn_phase a, cn_phase b)
{
    return a.only_mid == b.only_mid && a.unlock == b.unlock;
}

int cn_phase_list(const cn_train_options *o, int64_t first, int64_t total,
                  cn_phase_start out[CN_MAX_PHASES])
{
    const int64_t joins = CN_MIN(o->reconnect_after, o->unlock_after);
    const int64_t borders[] = {joins, CN_MAX(o->reconnect_after, o->unlock_after)};
    int n = 0;
    out[n++] = (cn_phase_start){cn_phase_at(o, first), first};
    for (size_t i = 0; i < CN_COUNT(borders); i++) {
        const cn_phase p = cn_phase_at(o, borders[i]);
        if (borders[i] <= first || borders[i] >= total || cn_phase_same(p, out[n - 1].phase))
            continue;
        out[n++] = (cn_phase_start){p, borders[i]};
    }
    return n;
}

cn_status cn_phase_follows(cn_ctx *ctx, cn_phase before, cn_phase after)
{
    if (after.only_mid && !before.only_mid)
        return cn_fail(ctx, CN_EINVAL,
                       "the decoder's links have been trained there; go on without "
                       "--only-mid-control");
    if (before.unlock == CN_UNLOCK_NONE || before.unlock == after.unlock) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "the base has been trained there; go on with --unlock %s",
                   cn_unlock_word(before.unlock));
}

/* The reference code's sd_locked=False: output_blocks and out (cldm/cldm.py,
 * configure_optimizers). */
static bool in_decoder(const char *name)
{
    static const char *const parts[] = {"up_blocks.", "conv_norm_out.", "conv_out."};
    for (size_t i = 0; i < CN_COUNT(parts); i++)
        if (strncmp(name, parts[i], strlen(parts[i])) == 0) return true;
    return false;
}

static bool anywhere(const char *name)
{
    return name[0] != 0;
}

void cn_phase_prepare(cn_params *unet, cn_unlock whole_run, cn_phase now)
{
    cn_params_set_part(unet, whole_run == CN_UNLOCK_DECODER ? in_decoder
                             : whole_run == CN_UNLOCK_ALL   ? anywhere
                                                            : NULL);
    cn_params_set_trainable(unet, now.unlock != CN_UNLOCK_NONE);
}
