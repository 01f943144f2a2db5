/* SPDX-License-Identifier: Apache-2.0 */
/* png_text.c - the text of one key in a PNG file.
 *
 * libpng unpacks and keeps every text chunk there is: a hundred zTXt chunks of 7 KB were 700 MB.
 * Here the key is compared first, and what it stands before is unpacked up to a limit.
 */
#include "image/image_internal.h"

#include <string.h>
#include <zlib.h>

enum { MAX_TEXT = 8 << 20, FIRST_ROOM = 4096 };

typedef struct span {
    const uint8_t *p;
    size_t n;
} span;

/* Cuts the bytes up to a 0 off the front of s; false: there is none. */
static bool cut_string(span *s, span *out)
{
    const uint8_t *end = memchr(s->p, 0, s->n);
    if (!end) return false;
    *out = (span){s->p, (size_t)(end - s->p)};
    s->n -= out->n + 1;
    s->p = end + 1;
    return true;
}

static bool cut_byte(span *s, uint8_t *out)
{
    if (!s->n) return false;
    *out = *s->p++;
    s->n--;
    return true;
}

/* zlib's stream; false when it is damaged or longer than the limit. */
static bool unpack(span packed, cn_str *out)
{
    uint8_t room[FIRST_ROOM];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)packed.p, .avail_in = (uInt)packed.n};
    int r = inflateInit(&z);
    if (r != Z_OK) return false;
    do {
        z.next_out = room;
        z.avail_out = sizeof room;
        r = inflate(&z, Z_NO_FLUSH);
        cn_str_add(out, (const char *)room, sizeof room - z.avail_out);
    } while (r == Z_OK && out->len <= MAX_TEXT && !out->failed);
    inflateEnd(&z);
    return r == Z_STREAM_END && out->len <= MAX_TEXT;
}

/* tEXt and zTXt are Latin-1: two bytes of UTF-8 for its upper half. */
static void add_latin1(cn_str *out, span s)
{
    for (size_t i = 0; i < s.n; i++) {
        const uint8_t c = s.p[i];
        const char two[] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))};
        if (c >= 0x80)
            cn_str_add(out, two, 2);
        else
            cn_str_add(out, (const char *)&s.p[i], 1);
    }
}

/* The text of a chunk; false: of another key, or damaged. */
static bool read_chunk(const uint8_t type[4], span data, const char *key, cn_str *out)
{
    const bool international = memcmp(type, "iTXt", 4) == 0;
    uint8_t packed = memcmp(type, "zTXt", 4) == 0, method = 0;
    span word, language;
    if (!cut_string(&data, &word) || word.n != strlen(key) || memcmp(word.p, key, word.n) != 0)
        return false;
    if (international && !cut_byte(&data, &packed)) return false;
    if ((packed || international) && (!cut_byte(&data, &method) || method != 0)) return false;
    if (international && (!cut_string(&data, &language) || !cut_string(&data, &word))) return false;
    cn_str plain = {0};
    bool good = true;
    if (packed) {
        good = data.n <= MAX_TEXT && unpack(data, &plain);
        data = (span){(const uint8_t *)plain.data, plain.len};
    }
    good = good && data.n <= MAX_TEXT;
    if (good && international)
        cn_str_add(out, (const char *)data.p, data.n);
    else if (good)
        add_latin1(out, data);
    out->failed |= plain.failed;
    cn_str_free(&plain);
    return good;
}

static bool is_text(const uint8_t type[4])
{
    return memcmp(type, "tEXt", 4) == 0 || memcmp(type, "zTXt", 4) == 0 ||
           memcmp(type, "iTXt", 4) == 0;
}

cn_status cn_png_find_text(cn_ctx *ctx, const uint8_t *bytes, size_t n, const char *key, char **out)
{
    cn_str text = {0};
    bool found = false;
    for (size_t at = 8; !found && n - at >= 12; at += 12 + cn_png_u32(bytes + at)) {
        const size_t length = cn_png_u32(bytes + at);
        const uint8_t *type = bytes + at + 4;
        if (length > n - at - 12) {
            cn_str_free(&text);
            return cn_fail(ctx, CN_EFORMAT, "damaged PNG: the file is truncated");
        }
        if (!is_text(type) || crc32(0, type, (uInt)length + 4) != cn_png_u32(type + 4 + length))
            continue;
        cn_str_free(&text);
        found = read_chunk(type, (span){type + 4, length}, key, &text);
        if (text.failed) break;
    }
    if (text.failed) {
        cn_str_free(&text);
        return cn_fail(ctx, CN_ENOMEM, "no memory for a PNG file's text");
    }
    if (found && !text.data) cn_str_add(&text, "", 0);
    if (!found) cn_str_free(&text);
    *out = text.data;
    return CN_OK;
}
