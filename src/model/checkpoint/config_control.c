/* SPDX-License-Identifier: Apache-2.0 */
/* config_control.c - configurations of T2I-Adapters and ControlNet-LLLites: config.json, and
 * tensors' names and shapes. */
#include "model/checkpoint/config_io.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BLOCKS = 16, LEAST_SHRINK = 8, MOST_SHRINK = 16 };

/* --- T2I-Adapter ------------------------------------------------------------------------------ */

static cn_status check_adapter(cn_ctx *ctx, const cn_adapter_config *c)
{
    if (c->shrink != LEAST_SHRINK && c->shrink != MOST_SHRINK)
        return cn_fail(ctx, CN_EFORMAT,
                       "T2I-Adapter: \"downscale_factor\" is %lld; 8 and 16 are possible",
                       (long long)c->shrink);
    if (c->image_channels != 1 && c->image_channels != 3)
        return cn_fail(ctx, CN_EFORMAT,
                       "T2I-Adapter: pictures of %lld channels; 3 and 1 (grey) are possible",
                       (long long)c->image_channels);
    if (c->blocks < 1 || c->blocks > MAX_BLOCKS || c->levels < 1 || c->levels > CN_MAX_LEVELS)
        return cn_fail(ctx, CN_EFORMAT, "T2I-Adapter: %d levels of %d blocks are impossible",
                       c->levels, c->blocks);
    for (int i = 0; i < c->levels; i++)
        if (c->channels[i] < 4 || c->channels[i] > 65536 || c->channels[i] % 4)
            return cn_fail(ctx, CN_EFORMAT, "T2I-Adapter: width %lld of level %d is impossible",
                           (long long)c->channels[i], i);
    return CN_OK;
}

const char *const cn_adapter_form_words[CN_ADAPTER_FORMS] = {"full_adapter", "full_adapter_xl",
                                                             "light_adapter"};

cn_status cn_adapter_config_read(cn_ctx *ctx, const json_t *json, cn_adapter_config *out)
{
    const char *const *const forms = cn_adapter_form_words;
    cn_adapter_config c = {0};
    const char *form = cn_json_str(json, "adapter_type", "full_adapter");
    const json_t *widths = json_object_get(json, "channels");
    while (c.form < CN_ADAPTER_FORMS && strcmp(form, forms[c.form])) c.form++;
    if (c.form == CN_ADAPTER_FORMS)
        return cn_fail(ctx, CN_EFORMAT,
                       "\"adapter_type\": \"%s\" is not supported, only full_adapter, "
                       "full_adapter_xl and light_adapter",
                       form);
    c.image_channels = cn_json_int(json, "in_channels", 3);
    c.shrink = cn_json_int(json, "downscale_factor", 8);
    c.blocks = (int)CN_MAX(0, CN_MIN(cn_json_int(json, "num_res_blocks", 2), 1 << 16));
    const size_t n = json_array_size(widths), most = CN_MAX_LEVELS - 1;
    if (n < 1 || n > most)
        return cn_fail(ctx, CN_EFORMAT, "\"channels\" must be a list of 1 to %zu widths", most);
    for (; c.levels < (int)n; c.levels++)
        c.channels[c.levels] = json_integer_value(json_array_get(widths, (size_t)c.levels));
    if (c.form == CN_ADAPTER_LIGHT) {
        c.channels[c.levels] = c.channels[c.levels - 1];
        c.levels++;
    }
    CN_TRY(check_adapter(ctx, &c));
    *out = c;
    return CN_OK;
}

static const cn_tensor_info *find(const cn_tensors *t, const char *fmt, int a, int b)
{
    char name[128];
    snprintf(name, sizeof name, fmt, a, b);
    const cn_tensor_info *info = cn_tensors_find(t, name);
    return info && info->ndim == 4 ? info : NULL;
}

/* Formats of the names of the first convolution, and of a residual block's, by level and block. */
static const struct {
    const char *first[2]; /* of a full adapter, of a light one */
    const char *full, *light, *light_out;
} adapter_names[] = {
    [CN_LAYOUT_DIFFUSERS] = {{"adapter.conv_in.weight", "adapter.body.0.in_conv.weight"},
                             "adapter.body.%d.resnets.%d.block1.weight",
                             "adapter.body.%d.resnets.%d.block1.weight",
                             "adapter.body.%d.out_conv.weight"},
    [CN_LAYOUT_LDM] = {{"conv_in.weight", "body.0.in_conv.weight"},
                       "body.%d.block1.weight",
                       "body.%d.body.%d.block1.weight",
                       "body.%d.out_conv.weight"},
};

/* A block of a full adapter, whose numbers run through in TencentARC's files. */
static const cn_tensor_info *full_block(const cn_tensors *t, cn_layout layout, int level, int i)
{
    const char *format = adapter_names[layout].full;
    return layout == CN_LAYOUT_LDM ? find(t, format, 2 * level + i, 0) : find(t, format, level, i);
}

/* Squares of 8 or 16 pixels a side, in one or three channels. */
static bool read_input(int64_t channels, cn_adapter_config *c)
{
    for (c->shrink = LEAST_SHRINK; c->shrink <= MOST_SHRINK; c->shrink *= 2)
        for (c->image_channels = 1; c->image_channels <= 3; c->image_channels += 2)
            if (channels == c->image_channels * c->shrink * c->shrink) return true;
    return false;
}

/* Levels end where a first block, or a light one's last convolution, is missing; more blocks than
 * they have say that it isn't the end. */
static cn_status check_levels_end(cn_ctx *ctx, const cn_tensors *t, cn_layout layout,
                                  const cn_adapter_config *c)
{
    static const char block[] = ".block1.weight";
    char name[128];
    int64_t blocks = 0;
    for (int64_t i = 0; i < cn_tensors_count(t); i++) {
        const char *at = strstr(cn_tensors_at(t, i)->name, block);
        blocks += at && !at[sizeof block - 1];
    }
    if (blocks <= (int64_t)c->levels * c->blocks) return CN_OK;
    const bool light = c->form == CN_ADAPTER_LIGHT, numbered = !light && layout == CN_LAYOUT_LDM;
    snprintf(name, sizeof name,
             light ? adapter_names[layout].light_out : adapter_names[layout].full,
             numbered ? c->levels * c->blocks : c->levels, 0);
    return cn_fail(ctx, CN_EFORMAT, "tensor %s is missing: the T2I-Adapter has more blocks", name);
}

cn_status cn_adapter_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, cn_layout layout,
                                        cn_adapter_config *out)
{
    cn_adapter_config c = {0};
    const cn_tensor_info *first = find(t, adapter_names[layout].first[0], 0, 0);
    const bool light = !first;
    if (light) first = find(t, adapter_names[layout].first[1], 0, 0);
    if (!first || !read_input(first->shape[1], &c))
        return cn_fail(ctx, CN_EFORMAT,
                       "T2I-Adapter: its first convolution (%s) must take 64, 192, 256 or 768 "
                       "channels",
                       adapter_names[layout].first[light]);
    c.form = light ? CN_ADAPTER_LIGHT : c.shrink == MOST_SHRINK ? CN_ADAPTER_XL : CN_ADAPTER_FULL;
    if (light)
        while (c.blocks <= MAX_BLOCKS && find(t, adapter_names[layout].light, 0, c.blocks))
            c.blocks++;
    else
        while (
            c.blocks <= MAX_BLOCKS &&
            (layout == CN_LAYOUT_LDM ? c.blocks < 2 : full_block(t, layout, 0, c.blocks) != NULL))
            c.blocks++;
    for (; c.levels < CN_MAX_LEVELS; c.levels++) {
        const cn_tensor_info *w = light ? find(t, adapter_names[layout].light_out, c.levels, 0)
                                        : full_block(t, layout, c.levels, 0);
        if (!w) break;
        c.channels[c.levels] = w->shape[0];
    }
    CN_TRY(check_levels_end(ctx, t, layout, &c));
    CN_TRY(check_adapter(ctx, &c));
    *out = c;
    return CN_OK;
}

/* --- ControlNet-LLLite ------------------------------------------------------------------------ */

static const char first_conv[] = ".conditioning1.0.weight";

/* Whether a tensor is a module's first; n: the length of the module's name. */
static bool begins_module(const cn_tensor_info *t, size_t *n)
{
    const char *at = strstr(t->name, first_conv);
    if (!at || at[sizeof first_conv - 1] || strncmp(t->name, "lllite_unet_", 12) != 0) return false;
    *n = (size_t)(at - t->name);
    return true;
}

static cn_status read_module(cn_ctx *ctx, const cn_tensors *t, const char *name, size_t n,
                             cn_lllite_module *m)
{
    char tensor[256];
    if (n >= sizeof m->name)
        return cn_fail(ctx, CN_EFORMAT, "LLLite: a module's name of %zu characters", n);
    memcpy(m->name, name, n);
    for (; m->convs < CN_LLLITE_CONVS; m->convs++) {
        snprintf(tensor, sizeof tensor, "%s.conditioning1.%d.weight", m->name, 2 * m->convs);
        const cn_tensor_info *w = cn_tensors_find(t, tensor);
        if (!w) break;
        if (w->ndim != 4 || w->shape[2] != w->shape[3] || w->shape[2] < 1 || w->shape[2] > 64 ||
            w->shape[0] < 1 || w->shape[0] > 65536)
            return cn_fail(ctx, CN_EFORMAT, "%s: a square convolution is expected", tensor);
        m->widths[m->convs] = w->shape[0];
        m->kernels[m->convs] = (int)w->shape[2];
    }
    snprintf(tensor, sizeof tensor, "%s.down.0.weight", m->name);
    const cn_tensor_info *down = cn_tensors_find(t, tensor);
    if (!down || down->ndim != 2 || down->shape[0] < 1 || down->shape[1] < 1)
        return cn_fail(ctx, CN_EFORMAT, "tensor %s is missing, a linear layer's", tensor);
    m->hidden = down->shape[0];
    m->features = down->shape[1];
    return CN_OK;
}

/* Its convolution's number where the tensor is one that makes something of the condition; -1: it is
 * of another layer. n: the length of the module's name. */
static int condition_conv(const cn_tensor_info *t, size_t *n)
{
    static const char conditioning[] = ".conditioning1.";
    const char *at = strstr(t->name, conditioning);
    if (!at || strncmp(t->name, "lllite_unet_", 12) != 0) return -1;
    *n = (size_t)(at - t->name);
    const long k = strtol(at + sizeof conditioning - 1, NULL, 10);
    return k >= 0 && k < 1000 ? (int)(k / 2) : -1;
}

/* Modules and their convolutions are counted up to the first that is missing: none lies behind. */
static cn_status check_whole(cn_ctx *ctx, const cn_tensors *t, const cn_lllite_config *c)
{
    for (int64_t i = 0; i < cn_tensors_count(t); i++) {
        const char *name = cn_tensors_at(t, i)->name;
        size_t n;
        const int conv = condition_conv(cn_tensors_at(t, i), &n);
        if (conv < 0) continue;
        int k = 0;
        while (k < c->n && (strncmp(c->modules[k].name, name, n) != 0 || c->modules[k].name[n]))
            k++;
        const int convs = k < c->n ? c->modules[k].convs : 0;
        if (conv < convs) continue;
        if (convs == CN_LLLITE_CONVS)
            return cn_fail(ctx, CN_EFORMAT, "%s: a module of more than %d convolutions", name,
                           convs);
        return cn_fail(ctx, CN_EFORMAT, "tensor %.*s.conditioning1.%d.weight is missing", (int)n,
                       name, 2 * convs);
    }
    return CN_OK;
}

cn_status cn_lllite_config_from_shapes(cn_ctx *ctx, const cn_tensors *t, cn_lllite_config **out)
{
    enum { MAX_MODULES = 4096 };
    int n = 0;
    size_t length;
    for (int64_t i = 0; i < cn_tensors_count(t); i++)
        n += n < MAX_MODULES && begins_module(cn_tensors_at(t, i), &length);
    if (!n)
        return cn_fail(ctx, CN_EFORMAT, "LLLite: no module (lllite_unet_...%s) in it", first_conv);
    cn_lllite_config *c = cn_alloc0(ctx, sizeof *c + (size_t)n * sizeof *c->modules);
    cn_status s = c ? CN_OK : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < cn_tensors_count(t) && c->n < n; i++) {
        const char *name = cn_tensors_at(t, i)->name;
        if (begins_module(cn_tensors_at(t, i), &length))
            s = read_module(ctx, t, name, length, &c->modules[c->n++]);
    }
    if (s == CN_OK) s = check_whole(ctx, t, c);
    if (s != CN_OK) {
        cn_free(c);
        return s;
    }
    *out = c;
    return CN_OK;
}
