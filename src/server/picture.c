/* SPDX-License-Identifier: Apache-2.0 */
/* picture.c - pictures in JSON. */
#include "server/picture.h"

#include "server/base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *picture_bytes(const char *text, size_t *n)
{
    if (strncmp(text, "data:", 5) == 0) {
        const char *comma = strchr(text, ',');
        if (!comma || comma - text < 7 || strncmp(comma - 7, ";base64", 7) != 0) return NULL;
        text = comma + 1;
    }
    return base64_decode(text, strlen(text), n);
}

bool picture_from_json(cn_ctx *ctx, const json_t *object, const char *member, bool mask,
                       cn_image **out, char why[WHY_BYTES])
{
    const char *text;
    size_t n = 0;
    *out = NULL;
    if (!json_text(object, member, NULL, &text, why)) return false;
    if (!text || !*text) return true;
    char *bytes = picture_bytes(text, &n);
    if (!bytes) {
        snprintf(why, WHY_BYTES, "%s: a picture in base64 is expected", member);
        return false;
    }
    const cn_status s =
        mask ? cn_mask_load_memory(ctx, bytes, n, out) : cn_image_load_memory(ctx, bytes, n, out);
    free(bytes);
    if (s != CN_OK) snprintf(why, WHY_BYTES, "%s: %s", member, cn_error(ctx));
    return s == CN_OK;
}
