/* SPDX-License-Identifier: Apache-2.0 */
/* lora_names.c - what the tensors of LoRA files are called.
 *
 * All of the published naming schemes meet in one key: the module's name with '_' for '.'. Keys of
 * the network's parameters, under both of their names, are made the same way, so no table of blocks
 * is needed.
 */
#include "model/checkpoint/lora_internal.h"

#include <string.h>

static const struct {
    const char *ending;
    cn_lora_part part;
} endings[] = {
    {".lora_up.weight", CN_LORA_UP},
    {".lora_down.weight", CN_LORA_DOWN},
    {".lora_mid.weight", CN_LORA_MID},
    {".lora_B.weight", CN_LORA_UP},
    {".lora_A.weight", CN_LORA_DOWN},
    {".lora_B.bias", CN_LORA_UP_BIAS},
    {".lora_linear_layer.up.weight", CN_LORA_UP},
    {".lora_linear_layer.down.weight", CN_LORA_DOWN},
    {".lora.up.weight", CN_LORA_UP},
    {".lora.down.weight", CN_LORA_DOWN},
    {"_lora.up.weight", CN_LORA_UP},
    {"_lora.down.weight", CN_LORA_DOWN},
    {".alpha", CN_LORA_ALPHA},
    {".scale", CN_LORA_SCALE},
    {".hada_w1_a", CN_LORA_W1_A},
    {".hada_w1_b", CN_LORA_W1_B},
    {".hada_w2_a", CN_LORA_W2_A},
    {".hada_w2_b", CN_LORA_W2_B},
    {".hada_t1", CN_LORA_T1},
    {".hada_t2", CN_LORA_T2},
    {".lokr_w1", CN_LORA_K1},
    {".lokr_w1_a", CN_LORA_K1_A},
    {".lokr_w1_b", CN_LORA_K1_B},
    {".lokr_w2", CN_LORA_K2},
    {".lokr_w2_a", CN_LORA_K2_A},
    {".lokr_w2_b", CN_LORA_K2_B},
    {".lokr_t2", CN_LORA_KT2},
    {".diff", CN_LORA_DIFF},
    {".diff_b", CN_LORA_DIFF_BIAS},
    {".w_norm", CN_LORA_DIFF},
    {".b_norm", CN_LORA_DIFF_BIAS},
    {".on_input", CN_LORA_IA3_INPUT},
    {".ia3_l", CN_LORA_IA3_FACTOR},
    {".dora_scale", CN_LORA_DORA},
    {".lora_magnitude_vector", CN_LORA_MAGNITUDE},
    {".lora_magnitude_vector.weight", CN_LORA_MAGNITUDE},
};

/* Parts by which a name contains it, and the kind. */
static const char *const unsupported[][2] = {
    {".oft_", "OFT"},
    {".boft_", "BOFT"},
    {".a1.weight", "GLoRA"},
    {".glora_", "GLoRA"},
    {".lora_E", "AdaLoRA"},
    {".vera_lambda", "VeRA"},
    {".fourierft_", "FourierFT"},
    {".hra_u", "HRA"},
    {".lambda_layer", "T-LoRA"},
    {".bias_indices", "a sparse bias"},
    {".lora_embedding_", "a LoRA of an embedding table"},
};

static const struct {
    const char *prefix;
    cn_net net; /* CN_NETS: any */
} prefixes[] = {
    {"lora_unet_", CN_NET_UNET},       {"unet.", CN_NET_UNET},
    {"diffusion_model.", CN_NET_UNET}, {"lora_te_", CN_NET_TEXT},
    {"lora_te1_", CN_NET_TEXT},        {"text_encoder.", CN_NET_TEXT},
    {"lora_te2_", CN_NET_TEXT + 1},    {"text_encoder_2.", CN_NET_TEXT + 1},
    {CN_LORA_PEFT, CN_NETS},           {"lycoris_", CN_NETS},
};

bool cn_lora_ends_with(const char *name, size_t n, const char *ending)
{
    size_t e = strlen(ending);
    return n > e && !memcmp(name + n - e, ending, e);
}

/* Puts `to` for the first `from` in key, where it stands at the end if at_end. */
static void rename_in(char *key, size_t cap, const char *from, const char *to, bool at_end)
{
    char *at = strstr(key, from), rest[CN_NAME_MAX];
    if (!at || (at_end && at[strlen(from)])) return;
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    snprintf(at, cap - (size_t)(at - key), "%s%s", to, rest);
}

bool cn_lora_make_key(const char *name, size_t n, char key[CN_NAME_MAX])
{
    if (n + 16 >= CN_NAME_MAX) return false;
    for (size_t i = 0; i < n; i++) key[i] = name[i] == '.' ? '_' : name[i];
    key[n] = 0;
    return true;
}

/* What older diffusers called the same modules. */
static void modernize(char key[CN_NAME_MAX])
{
    rename_in(key, CN_NAME_MAX, "_processor_", "_", false);
    if (strstr(key, "self_attn_to_")) {
        rename_in(key, CN_NAME_MAX, "self_attn_to_out", "self_attn_out_proj", true);
        rename_in(key, CN_NAME_MAX, "self_attn_to_q", "self_attn_q_proj", true);
        rename_in(key, CN_NAME_MAX, "self_attn_to_k", "self_attn_k_proj", true);
        rename_in(key, CN_NAME_MAX, "self_attn_to_v", "self_attn_v_proj", true);
    } else {
        rename_in(key, CN_NAME_MAX, "_to_out", "_to_out_0", true);
    }
}

/* The tensor's part and the length of its module's name. */
static bool part_of(const char *name, bool ia3, cn_lora_part *part, size_t *module_n)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < CN_COUNT(endings); i++) {
        if (!cn_lora_ends_with(name, n, endings[i].ending)) continue;
        *part = endings[i].part;
        *module_n = n - strlen(endings[i].ending);
        return true;
    }
    const bool weight = cn_lora_ends_with(name, n, ".weight");
    const bool pefts = !strncmp(name, CN_LORA_PEFT, strlen(CN_LORA_PEFT));
    if (pefts && (weight || cn_lora_ends_with(name, n, ".bias"))) {
        *part = weight ? CN_LORA_WHOLE : CN_LORA_WHOLE_BIAS;
        *module_n = n - strlen(weight ? ".weight" : ".bias");
        return true;
    }
    if (!ia3 || !weight) return false;
    *part = CN_LORA_IA3;
    *module_n = n - strlen(".weight");
    return true;
}

/* Without the name that peft gives an adapter until it is saved. */
static bool without_adapter(const char *tensor, char out[CN_NAME_MAX])
{
    static const char adapter[] = ".default";
    const size_t n = sizeof adapter - 1;
    const char *at = strstr(tensor, adapter);
    if (at && at[n] && at[n] != '.') at = NULL;
    const int head = at ? (int)(at - tensor) : (int)CN_MIN(strlen(tensor), (size_t)CN_NAME_MAX);
    const int length = snprintf(out, CN_NAME_MAX, "%.*s%s", head, tensor, at ? at + n : "");
    return length > 0 && length < CN_NAME_MAX;
}

bool cn_lora_name_read(const char *tensor, bool ia3, cn_lora_name *out)
{
    char plain[CN_NAME_MAX];
    const char *name = plain;
    size_t n = 0;
    if (!without_adapter(tensor, plain) || !part_of(plain, ia3, &out->part, &n)) return false;
    out->net = CN_NETS;
    for (size_t i = 0; i < CN_COUNT(prefixes); i++) {
        size_t p = strlen(prefixes[i].prefix);
        if (strncmp(name, prefixes[i].prefix, p) != 0 || n <= p) continue;
        out->net = prefixes[i].net;
        name += p;
        n -= p;
        break;
    }
    if (cn_lora_ends_with(name, n, ".modules_to_save")) n -= strlen(".modules_to_save");
    if (!cn_lora_make_key(name, n, out->key)) return false;
    snprintf(out->name, sizeof out->name, "%.*s", (int)n, name);
    modernize(out->key);
    return true;
}

bool cn_lora_has_ia3(const cn_tensors *t)
{
    for (int64_t i = 0; i < cn_tensors_count(t); i++) {
        const char *name = cn_tensors_at(t, i)->name;
        if (cn_lora_ends_with(name, strlen(name), ".on_input")) return true;
    }
    return false;
}

const char *cn_lora_unsupported(const char *tensor)
{
    for (size_t i = 0; i < CN_COUNT(unsupported); i++)
        if (strstr(tensor, unsupported[i][0])) return unsupported[i][1];
    return NULL;
}
