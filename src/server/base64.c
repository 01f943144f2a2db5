/* SPDX-License-Identifier: Apache-2.0 */
/* base64.c - RFC 4648's base64, with the alphabets of its sections 4 and 5. */
#include "server/base64.h"

#include <stdint.h>
#include <stdlib.h>

char *base64_encode(const void *bytes, size_t n, size_t *out_bytes)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = bytes;
    if (n > SIZE_MAX / 2) return NULL;
    char *out = malloc((n + 2) / 3 * 4 + 1), *to = out;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i += 3) {
        const unsigned a = in[i], b = i + 1 < n ? in[i + 1] : 0, c = i + 2 < n ? in[i + 2] : 0;
        *to++ = letters[a >> 2];
        *to++ = letters[(a & 3) << 4 | b >> 4];
        *to++ = i + 1 < n ? letters[(b & 15) << 2 | c >> 6] : '=';
        *to++ = i + 2 < n ? letters[c & 63] : '=';
    }
    *to = 0;
    if (out_bytes) *out_bytes = (size_t)(to - out);
    return out;
}

/* A digit's value, -1: none. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

char *base64_decode(const char *text, size_t n, size_t *out_bytes)
{
    uint8_t *out = malloc(n / 4 * 3 + 4);
    size_t made = 0, digits = 0, padding = 0;
    uint32_t bits = 0;
    for (size_t i = 0; out && i < n; i++) {
        const char c = text[i];
        const int v = value_of(c);
        if (c == '\n' || c == '\r') continue;
        if (c == '=') padding++;
        if ((v < 0 && c != '=') || (v >= 0 && padding)) goto bad;
        if (v < 0) continue;
        bits = bits << 6 | (uint32_t)v;
        if (++digits % 4 == 0) {
            out[made++] = (uint8_t)(bits >> 16);
            out[made++] = (uint8_t)(bits >> 8);
            out[made++] = (uint8_t)bits;
        }
    }
    if (!out || padding > 2 || digits % 4 == 1) goto bad;
    if (digits % 4 == 3) out[made++] = (uint8_t)(bits >> 10);
    if (digits % 4 == 3) out[made++] = (uint8_t)(bits >> 2);
    if (digits % 4 == 2) out[made++] = (uint8_t)(bits >> 4);
    out[made] = 0;
    *out_bytes = made;
    return (char *)out;
bad:
    free(out);
    return NULL;
}
