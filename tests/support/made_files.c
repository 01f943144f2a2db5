/* SPDX-License-Identifier: Apache-2.0 */
/* made_files.c - see made_files.h. */
#include "made_files.h"

#include <string.h>
#include <zlib.h>

void make_safetensors(cn_str *s, uint64_t header_bytes, const char *header, size_t data_bytes)
{
    char zeros[64] = {0}, size[8];
    for (int i = 0; i < 8; i++) size[i] = (char)(header_bytes >> (8 * i));
    cn_str_add(s, size, sizeof size);
    cn_str_adds(s, header);
    cn_str_add(s, zeros, CN_MIN(data_bytes, sizeof zeros));
}

static void add_be32(cn_str *s, uint32_t v)
{
    const char b[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    cn_str_add(s, b, sizeof b);
}

static void add_chunk(cn_str *s, const char *type, const char *data, size_t n)
{
    add_be32(s, (uint32_t)n);
    const size_t from = s->len;
    cn_str_add(s, type, 4);
    cn_str_add(s, data, n);
    add_be32(s, (uint32_t)crc32(0, (const Bytef *)s->data + from, (uInt)(s->len - from)));
}

void make_png(cn_str *s, uint32_t width, uint32_t height)
{
    static const char magic[] = "\x89PNG\r\n\x1a\n",
                      data[] = "\x78\x9c\x63\x00\x00\x00\x01\x00\x01";
    cn_str head = {0};
    add_be32(&head, width);
    add_be32(&head, height);
    cn_str_add(&head, "\x08\x02\0\0\0", 5);
    cn_str_add(s, magic, 8);
    add_chunk(s, "IHDR", head.data, head.len);
    add_chunk(s, "IDAT", data, sizeof data - 1);
    add_chunk(s, "IEND", "", 0);
    cn_str_free(&head);
}

static void add_le(cn_str *s, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        const char b = (char)(i < 8 ? v >> (8 * i) : 0);
        cn_str_add(s, &b, 1);
    }
}

/* The fields that a stored file's local and central entries share, from the version needed on. */
static void add_zip_entry(cn_str *s, const char *name, const char *data, size_t n)
{
    add_le(s, 20, 2);
    add_le(s, 0, 8); /* flags, method 0, time, date */
    add_le(s, crc32(0, (const Bytef *)data, (uInt)n), 4);
    add_le(s, n, 4);
    add_le(s, n, 4);
    add_le(s, strlen(name), 2);
    add_le(s, 0, 2);
}

void make_torch_zip(cn_str *s, const char *pickle, size_t n)
{
    static const char entry[] = "archive/data.pkl";
    cn_str_add(s, "PK\3\4", 4);
    add_zip_entry(s, entry, pickle, n);
    cn_str_adds(s, entry);
    cn_str_add(s, pickle, n);
    const size_t central = s->len;
    cn_str_add(s, "PK\1\2", 4);
    add_le(s, 20, 2);
    add_zip_entry(s, entry, pickle, n);
    add_le(s, 0, 14); /* comment, disk, attributes, offset */
    cn_str_adds(s, entry);
    const size_t central_bytes = s->len - central;
    cn_str_add(s, "PK\5\6", 4);
    add_le(s, 0, 4);
    add_le(s, 1, 2);
    add_le(s, 1, 2);
    add_le(s, central_bytes, 4);
    add_le(s, central, 4);
    add_le(s, 0, 2);
}
