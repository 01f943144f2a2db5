/* SPDX-License-Identifier: Apache-2.0 */
/* picture.h - pictures in JSON: base64, or a data: URL of it. */
#ifndef CN_SERVER_PICTURE_H
#define CN_SERVER_PICTURE_H

#include "controlnet.h"
#include "server/options_json.h"

/* The member's picture, *out NULL where it is absent, null or "". mask: as cn_mask_load. False with
 * `why`; pictures over the context's limit of pixels are refused by their header. */
bool picture_from_json(cn_ctx *ctx, const json_t *object, const char *member, bool mask,
                       cn_image **out, char why[WHY_BYTES]);
/* The bytes of base64 or a data: URL, in new memory (free); NULL: it is none. */
char *picture_bytes(const char *text, size_t *n);

#endif
