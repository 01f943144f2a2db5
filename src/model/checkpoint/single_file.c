/* SPDX-License-Identifier: Apache-2.0 */
/* single_file.c - single files that say how their networks are made: writing them, and reading what
 * they say.
 *
 * The layout has no place for configurations, so they stand in the safetensors metadata, as the
 * folder layout would have them.
 */
#include "model/checkpoint/base_parts.h"

#include "io/json_text.h"

#include <stdlib.h>
#include <string.h>

/* json (taken; NULL counts as out of memory) as text. */
static cn_status to_text(cn_ctx *ctx, json_t *json, cn_str *out)
{
    char *text = cn_json_text(json, JSON_COMPACT);
    if (text) cn_str_adds(out, text);
    free(text);
    json_decref(json);
    return text && !out->failed ? CN_OK : cn_fail(ctx, CN_ENOMEM, "no memory for a configuration");
}

cn_status cn_control_single_write(cn_ctx *ctx, const char *path, const cn_controlnet_config *c,
                                  const cn_params *p, const char *const *more,
                                  const cn_values *values)
{
    const bool many = c->union_types > 0;
    const cn_part part = {p, many ? "" : CN_PREFIX_CONTROL};
    cn_str config = {0};
    cn_status s = to_text(
        ctx, json_pack("{s:o}", cn_net_kind_of(CN_NET_CONTROL)->name, cn_controlnet_config_json(c)),
        &config);
    const char *const metadata[] = {"format", "pt", CN_META_CONFIG, config.data, NULL};
    const cn_remarks remarks = {.metadata = metadata, .more = more};
    if (s == CN_OK)
        s = cn_parts_write(ctx, path, &part, 1, many ? CN_LAYOUT_DIFFUSERS : CN_LAYOUT_LDM,
                           &remarks, values);
    cn_str_free(&config);
    return s;
}

static json_t *base_json(const cn_base *b)
{
    json_t *all = json_pack("{s:o}", "scheduler", cn_schedule_config_json(&b->schedule));
    const cn_family *f = cn_family_of(b);
    for (int i = 0; all && i < f->n_nets; i++) {
        const cn_net net = f->nets[i].net;
        if (!json_object_set_new(all, cn_net_kind_of(net)->name, cn_base_network_json(b, net)))
            continue;
        json_decref(all);
        all = NULL;
    }
    return all;
}

cn_status cn_base_single_write(cn_ctx *ctx, const char *path, const cn_base *b,
                               const cn_params *const *networks, const char *const *more,
                               const cn_values *values)
{
    const cn_family *f = cn_family_of(b);
    cn_part parts[CN_MAX_FAMILY_NETS];
    for (int i = 0; i < f->n_nets; i++) parts[i] = (cn_part){networks[i], f->nets[i].prefix};
    const bool v = b->schedule.v_prediction;
    cn_str config = {0};
    cn_status s = to_text(ctx, base_json(b), &config);
    const char *const metadata[] = {
        "format", "pt", CN_META_PREDICTION, v ? "v" : "epsilon", CN_META_CONFIG, config.data, NULL};
    const cn_remarks remarks = {
        .metadata = metadata,
        .more = more,
        .marks = {v ? CN_MARK_V : NULL, b->schedule.zero_snr ? CN_MARK_ZERO_SNR : NULL}};
    if (s == CN_OK)
        s = cn_parts_write(ctx, path, parts, f->n_nets, CN_LAYOUT_LDM, &remarks, values);
    cn_str_free(&config);
    return s;
}
