/* SPDX-License-Identifier: Apache-2.0 */
/* device_list.c - the devices as text, for people and for programs. */
#include "controlnet.h"
#include "gpu/gpu.h"

#include <stdio.h>

static void add_text(cn_str *s, const cn_gpu_device *d, int i)
{
    const double GB = 1 << 30;
    const uint32_t *m = d->matrix;
    char matrix[64] = "";
    if (m[0])
        snprintf(matrix, sizeof matrix, ", matrices of %ux%ux%u", (unsigned)m[0], (unsigned)m[1],
                 (unsigned)m[2]);
    cn_str_addf(s, "vulkan:%d  %s (%s)\n", i, d->name, d->type);
    cn_str_addf(s, "    memory     %.1f GB, %.1f GB free, at most %.1f GB at once\n",
                (double)d->memory_bytes / GB, (double)d->free_bytes / GB,
                (double)d->largest_bytes / GB);
    cn_str_addf(s, "    can        F32%s%s; subgroups of %u\n", d->f16 ? ", F16" : "", matrix,
                (unsigned)d->subgroup);
    cn_str_addf(s, "    driver     Vulkan %d.%d%s%s\n", d->api_major, d->api_minor,
                *d->driver ? ", " : "", d->driver);
    if (d->missing) cn_str_addf(s, "    can't be used: it lacks %s\n", d->missing);
}

/* What a driver says, as a JSON string. */
static void add_quoted(cn_str *s, const char *key, const char *text)
{
    cn_str_addf(s, "\"%s\":\"", key);
    for (; *text; text++) {
        if ((unsigned char)*text < ' ')
            cn_str_addf(s, "\\u%04x", (unsigned)*text);
        else
            cn_str_addf(s, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
    }
    cn_str_adds(s, "\"");
}

static void add_json(cn_str *s, const cn_gpu_device *d, int i)
{
    cn_str_addf(s, "%s{\"device\":\"vulkan:%d\",", i ? "," : "", i);
    add_quoted(s, "name", d->name);
    cn_str_adds(s, ",");
    add_quoted(s, "driver", d->driver);
    cn_str_addf(s,
                ",\"type\":\"%s\",\"vulkan\":\"%d.%d\",\"memory_bytes\":%llu,\"free_bytes\":%llu,"
                "\"largest_bytes\":%llu,\"f16\":%s,\"matrices\":%s,\"subgroup\":%u,\"usable\":%s}",
                d->type, d->api_major, d->api_minor, (unsigned long long)d->memory_bytes,
                (unsigned long long)d->free_bytes, (unsigned long long)d->largest_bytes,
                d->f16 ? "true" : "false", d->matrix[0] ? "true" : "false", (unsigned)d->subgroup,
                d->missing ? "false" : "true");
}

cn_status cn_devices(cn_ctx *ctx, bool json, char **text)
{
    cn_gpu_device devices[CN_GPU_MAX_DEVICES];
    int n = 0;
    cn_str s = {0};
    CN_TRY(cn_gpu_devices(ctx, devices, &n));
    if (json) cn_str_adds(&s, "[");
    for (int i = 0; i < n; i++) json ? add_json(&s, &devices[i], i) : add_text(&s, &devices[i], i);
    if (json) cn_str_adds(&s, "]\n");
    if (s.failed) return cn_fail(ctx, CN_ENOMEM, "out of memory");
    *text = s.data;
    return CN_OK;
}
