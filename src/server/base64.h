/* SPDX-License-Identifier: Apache-2.0 */
/* base64.h - RFC 4648's base64, as pictures come in JSON. */
#ifndef CN_SERVER_BASE64_H
#define CN_SERVER_BASE64_H

#include <stddef.h>

/* 0-terminated, in new memory (free); NULL without memory. */
char *base64_encode(const void *bytes, size_t n, size_t *out_bytes);
/* The bytes, with a 0 behind them that isn't counted; NULL without memory or for what is no base64.
 * Line ends and missing padding are allowed, as Python's and browsers' decoders do. */
char *base64_decode(const char *text, size_t n, size_t *out_bytes);

#endif
