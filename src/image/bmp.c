/* SPDX-License-Identifier: Apache-2.0 */
/* bmp.c - Windows bitmaps to RGB: 1 to 32 bits a pixel, palettes, bit masks, both run lengths.
 *
 * Source: Microsoft's "Bitmap Storage" (BITMAPCOREHEADER, BITMAPINFOHEADER, V4, V5). Alpha counts
 * where a mask for it is given; the fourth byte of plain 32-bit pixels is unused. Left out: JPEG or
 * PNG inside.
 */
#include "image/image_internal.h"

#include <string.h>

enum { FILE_HEADER = 14, CORE_HEADER = 12, INFO_HEADER = 40, MAX_COLOURS = 256 };
enum { PLAIN, RLE8, RLE4, MASKS, ALPHA_MASKS = 6 };

typedef struct bitmap {
    int64_t width, height;
    bool from_top;
    int bits, kind;
    uint32_t masks[4]; /* red, green, blue, alpha */
    uint8_t palette[MAX_COLOURS][3];
    const uint8_t *pixels, *end;
} bitmap;

static uint32_t le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}

static cn_status fail(cn_ctx *ctx, const char *why)
{
    return cn_fail(ctx, CN_EFORMAT, "damaged BMP: %s", why);
}

static cn_status read_header(cn_ctx *ctx, const uint8_t *p, size_t n, bitmap *b)
{
    if (n < FILE_HEADER + INFO_HEADER) return fail(ctx, "the file is truncated");
    const uint32_t header = le32(p + FILE_HEADER);
    const uint8_t *h = p + FILE_HEADER;
    if (header == CORE_HEADER) {
        *b = (bitmap){.width = le16(h + 4), .height = le16(h + 6), .bits = (int)le16(h + 10)};
    } else if (header >= INFO_HEADER && header <= 1024) {
        const int32_t height = (int32_t)le32(h + 8);
        *b = (bitmap){.width = (int32_t)le32(h + 4),
                      .height = height < 0 ? -(int64_t)height : height,
                      .from_top = height < 0,
                      .bits = (int)le16(h + 14),
                      .kind = (int)CN_MIN(le32(h + 16), 100)};
    } else {
        return fail(ctx, "its header is of no known size");
    }
    return cn_image_check_size(ctx, b->width, b->height);
}

static cn_status check_kind(cn_ctx *ctx, const bitmap *b)
{
    const int bits = b->bits;
    bool good = false;
    switch (b->kind) {
    case PLAIN:
        good = bits == 1 || bits == 4 || bits == 8 || bits == 16 || bits == 24 || bits == 32;
        break;
    case RLE8: good = bits == 8; break;
    case RLE4: good = bits == 4; break;
    case MASKS:
    case ALPHA_MASKS: good = bits == 16 || bits == 32; break;
    default: break;
    }
    if (good && (b->kind == RLE8 || b->kind == RLE4) && b->from_top) good = false;
    if (good) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "a BMP image of %d bits and compression %d, which isn't read",
                   bits, b->kind);
}

/* Masks stand behind the plain header, or in a longer one at the same place. */
static cn_status read_masks(cn_ctx *ctx, const uint8_t *p, size_t n, bitmap *b)
{
    static const uint32_t five[4] = {0x7c00, 0x3e0, 0x1f, 0}, eight[4] = {0xff0000, 0xff00, 0xff};
    const uint32_t header = le32(p + FILE_HEADER);
    const bool has_alpha = b->kind == ALPHA_MASKS || header >= 56;
    memcpy(b->masks, b->bits == 16 ? five : eight, sizeof b->masks);
    if (b->kind != MASKS && b->kind != ALPHA_MASKS) return CN_OK;
    const size_t at = FILE_HEADER + INFO_HEADER;
    if (n < at + 16) return fail(ctx, "the file is truncated");
    for (size_t c = 0; c < 4; c++) b->masks[c] = c == 3 && !has_alpha ? 0 : le32(p + at + 4 * c);
    return CN_OK;
}

static cn_status read_palette(cn_ctx *ctx, const uint8_t *p, size_t n, bitmap *b)
{
    const uint32_t header = le32(p + FILE_HEADER);
    const size_t entry = header == CORE_HEADER ? 3 : 4, at = FILE_HEADER + (size_t)header;
    const size_t most = (size_t)1 << b->bits;
    const size_t said = header == CORE_HEADER ? 0 : le32(p + FILE_HEADER + 32);
    const size_t colours = said && said < most ? said : most;
    if (n < at || (n - at) / entry < colours) return fail(ctx, "its palette is truncated");
    for (size_t i = 0; i < colours; i++)
        for (size_t c = 0; c < 3; c++) b->palette[i][c] = p[at + i * entry + 2 - c];
    return CN_OK;
}

static cn_status open_bitmap(cn_ctx *ctx, const uint8_t *p, size_t n, bitmap *b)
{
    CN_TRY(read_header(ctx, p, n, b));
    CN_TRY(check_kind(ctx, b));
    CN_TRY(read_masks(ctx, p, n, b));
    if (b->bits <= 8) CN_TRY(read_palette(ctx, p, n, b));
    const uint32_t offset = le32(p + 10);
    if (offset > n) return fail(ctx, "its pixels begin behind its end");
    b->pixels = p + offset;
    b->end = p + n;
    const int64_t row = (b->width * b->bits + 31) / 32 * 4;
    const bool packed = b->kind == RLE8 || b->kind == RLE4;
    /* A run of two bytes makes 255 pixels; an end of line stands for a whole empty one. */
    const int64_t least = packed ? b->width * b->height / (b->width * 255) : row * b->height;
    if (b->end - b->pixels < least) return fail(ctx, "the file is truncated");
    return CN_OK;
}

/* --- pixels ----------------------------------------------------------------------------------- */

static uint8_t *row_at(const bitmap *b, uint8_t *rgba, int64_t line)
{
    return rgba + 4 * b->width * (b->from_top ? line : b->height - 1 - line);
}

static void put_colour(const bitmap *b, uint8_t *px, uint32_t index)
{
    memcpy(px, b->palette[index], 3);
    px[3] = 255;
}

/* A mask's part of v, stretched to 0..255. */
static uint8_t part(uint32_t v, uint32_t mask, uint8_t without)
{
    if (!mask) return without;
    while (!(mask & 1)) {
        mask >>= 1;
        v >>= 1;
    }
    return (uint8_t)(((uint64_t)(v & mask) * 255 + mask / 2) / mask);
}

static void plain_row(const bitmap *b, const uint8_t *in, uint8_t *out)
{
    for (int64_t x = 0; x < b->width; x++, out += 4) {
        if (b->bits <= 8) {
            const int64_t at = x * b->bits;
            const int shift = 8 - b->bits - (int)(at % 8);
            put_colour(b, out, (uint32_t)in[at / 8] >> shift & ((1u << b->bits) - 1));
        } else if (b->bits == 24) {
            for (int c = 0; c < 3; c++) out[c] = in[3 * x + 2 - c];
            out[3] = 255;
        } else {
            const uint32_t v = b->bits == 16 ? le16(in + 2 * x) : le32(in + 4 * x);
            for (int c = 0; c < 4; c++) out[c] = part(v, b->masks[c], c == 3 ? 255 : 0);
        }
    }
}

/* Pixel k of a run's or a literal's bytes: RLE4 has two a byte. */
static uint32_t nibble(const bitmap *b, const uint8_t *p, int64_t k)
{
    if (b->kind == RLE8) return p[k];
    return k % 2 ? p[k / 2] & 15u : p[k / 2] >> 4;
}

/* What isn't named stays colour 0. A run that leaves its line is cut there. */
static cn_status unpack(cn_ctx *ctx, const bitmap *b, uint8_t *rgba)
{
    const uint8_t *p = b->pixels;
    int64_t x = 0, y = 0;
    for (int64_t i = 0; i < b->width * b->height; i++) put_colour(b, rgba + 4 * i, 0);
    while (b->end - p >= 2 && y < b->height) {
        const int count = p[0], second = p[1];
        p += 2;
        if (count) {
            const uint8_t twice[2] = {(uint8_t)second, (uint8_t)second};
            for (int64_t k = 0; k < count; k++, x++)
                if (x < b->width)
                    put_colour(b, row_at(b, rgba, y) + 4 * x,
                               b->kind == RLE8 ? (uint32_t)second : nibble(b, twice, k % 2));
        } else if (second == 0) {
            x = 0;
            y++;
        } else if (second == 1) {
            return CN_OK;
        } else if (second == 2) {
            if (b->end - p < 2) break;
            x += p[0];
            y += p[1];
            p += 2;
        } else {
            const int64_t bytes = b->kind == RLE8 ? second : (second + 1) / 2;
            if (b->end - p < bytes + bytes % 2) break;
            for (int64_t k = 0; k < second; k++, x++)
                if (x < b->width) put_colour(b, row_at(b, rgba, y) + 4 * x, nibble(b, p, k));
            p += bytes + bytes % 2;
        }
    }
    return y >= b->height ? CN_OK : fail(ctx, "the file is truncated");
}

static cn_status decode(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha, cn_image **out)
{
    bitmap b = {0};
    cn_image *image = NULL;
    CN_TRY(open_bitmap(ctx, bytes, n, &b));
    CN_TRY(cn_image_alloc(ctx, b.width, b.height, 4, &image));
    cn_status s = CN_OK;
    if (b.kind == RLE8 || b.kind == RLE4)
        s = unpack(ctx, &b, image->rgb);
    else
        for (int64_t y = 0; y < b.height; y++)
            plain_row(&b, b.pixels + y * ((b.width * b.bits + 31) / 32 * 4),
                      row_at(&b, image->rgb, y));
    if (s != CN_OK) {
        cn_image_destroy(image);
        return s;
    }
    cn_image_flatten_alpha(image, alpha);
    *out = image;
    return CN_OK;
}

static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    bitmap b = {0};
    CN_TRY(read_header(ctx, bytes, n, &b));
    *out = (cn_picture_size){b.width, b.height, 1};
    return CN_OK;
}

const cn_picture_format cn_picture_bmp = {.name = "BMP", .size = size, .decode = decode};
