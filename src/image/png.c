/* SPDX-License-Identifier: Apache-2.0 */
/* png.c - libpng: decoding from memory to RGB, encoding to memory.
 *
 * libpng reports errors by longjmp. What must outlive the jump lies in a struct on the caller's
 * frame, never in a local variable of the function that called setjmp. Width and height are checked
 * in the bytes of IHDR before libpng sees them.
 */
#include "image/image_internal.h"
#include "image/png_level.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

enum { LEVEL = 6, MAX_CHUNK = 8 << 20 };

/* What libpng would unpack and keep without any use for it, as many of them as there are: five
 * bytes a name. Texts are found without it (png_text.c). */
static const png_byte skipped[] = "tEXt\0zTXt\0iTXt\0iCCP\0sPLT";

typedef struct decoder {
    cn_ctx *ctx;
    const uint8_t *p;
    size_t left;
    png_structp png;
    png_infop info;
    cn_alpha alpha;
    cn_image *image;
    png_bytep *rows;
    cn_status status;
    char message[128];
} decoder;

static void on_error(png_structp png, png_const_charp message)
{
    decoder *d = png_get_error_ptr(png);
    snprintf(d->message, sizeof d->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png, (void)message;
}

static void on_read(png_structp png, png_bytep out, png_size_t n)
{
    decoder *d = png_get_io_ptr(png);
    if (n > d->left) png_error(png, "the file is truncated");
    memcpy(out, d->p, n);
    d->p += n;
    d->left -= n;
}

/* Size limits, and that the file is long enough: deflate packs 1032 to 1 at best. */
static cn_status check_header(cn_ctx *ctx, const uint8_t *bytes, size_t n)
{
    if (n < 33 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return cn_fail(ctx, CN_EFORMAT, "damaged PNG: no IHDR at its start");
    uint64_t width = cn_png_u32(bytes + 16), height = cn_png_u32(bytes + 20);
    CN_TRY(cn_image_check_size(ctx, (int64_t)width, (int64_t)height));
    uint64_t least = height * ((width + 7) / 8); /* one bit a pixel */
    if (least / 1040 > n)
        return cn_fail(ctx, CN_EFORMAT, "damaged PNG: %zu bytes can't hold %llu x %llu px", n,
                       (unsigned long long)width, (unsigned long long)height);
    return CN_OK;
}

/* The size, and EXIF data where it stands before the pixels. */
static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    if (n < 33 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return cn_fail(ctx, CN_EFORMAT, "damaged PNG: no IHDR at its start");
    cn_picture_size size = {cn_png_u32(bytes + 16), cn_png_u32(bytes + 20), 1};
    for (size_t at = 8; n - at >= 8; at += 12 + (size_t)cn_png_u32(bytes + at)) {
        const size_t length = cn_png_u32(bytes + at);
        if (memcmp(bytes + at + 4, "IDAT", 4) == 0) {
            *out = size;
            return cn_image_check_size(ctx, size.width, size.height);
        }
        if (n - at < 12 || length > n - at - 12) break;
        if (memcmp(bytes + at + 4, "eXIf", 4) == 0)
            size.orientation = cn_exif_orientation(bytes + at + 8, length);
    }
    return cn_fail(ctx, CN_EFORMAT, "damaged PNG: it ends before its pixels");
}

/* Every chunk lies in the file. libpng believes a chunk's length and asks for as much memory before
 * it reads. */
static cn_status check_chunks(cn_ctx *ctx, const uint8_t *bytes, size_t n)
{
    for (size_t at = 8; n - at >= 12; at += 12 + cn_png_u32(bytes + at)) {
        if (cn_png_u32(bytes + at) > n - at - 12)
            return cn_fail(ctx, CN_EFORMAT, "damaged PNG: the file is truncated");
        if (memcmp(bytes + at + 4, "IEND", 4) == 0) break;
    }
    return CN_OK;
}

/* Every colour type to 8-bit RGB or RGBA. 16 bits keep the high byte, as OpenCV and PIL do. */
static void set_transforms(decoder *d)
{
    png_byte color = png_get_color_type(d->png, d->info);
    if (png_get_bit_depth(d->png, d->info) == 16) png_set_strip_16(d->png);
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(d->png);
    if (color == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(d->png);
    if (png_get_valid(d->png, d->info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(d->png);
    if (!(color & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(d->png);
    (void)png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
}

static cn_status alloc_rows(decoder *d)
{
    int64_t width = png_get_image_width(d->png, d->info);
    int64_t height = png_get_image_height(d->png, d->info);
    int channels = png_get_channels(d->png, d->info);
    size_t row = (size_t)width * (size_t)channels;
    if ((channels != 3 && channels != 4) || png_get_rowbytes(d->png, d->info) != row)
        return cn_fail(d->ctx, CN_EINTERNAL, "libpng gives %d channels a pixel", channels);
    CN_TRY(cn_image_alloc(d->ctx, width, height, channels, &d->image));
    d->rows = cn_alloc_array(d->ctx, (size_t)height, sizeof *d->rows);
    if (!d->rows) return CN_ENOMEM;
    for (int64_t y = 0; y < height; y++) d->rows[y] = d->image->rgb + (size_t)y * row;
    return CN_OK;
}

static cn_status turn_upright(decoder *d)
{
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 n = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(d->png, d->info, &n, &exif) && exif)
        return cn_image_orient(d->ctx, &d->image, cn_exif_orientation(exif, n));
#endif
    return CN_OK;
}

/* One of many pixels takes seconds: a cancel is seen between its rows. A small one is finished. */
static bool is_interrupted(const cn_ctx *ctx, int64_t width, int64_t height)
{
    enum { LARGE = 1 << 22 };
    return width * height > LARGE && cn_cancelled(ctx);
}

static void read_rows(decoder *d)
{
    const int passes = png_set_interlace_handling(d->png);
    const png_uint_32 rows = png_get_image_height(d->png, d->info);
    for (int pass = 0; pass < passes; pass++)
        for (png_uint_32 y = 0; y < rows; y++) {
            if (is_interrupted(d->ctx, png_get_image_width(d->png, d->info), rows)) {
                d->status = cn_fail(d->ctx, CN_ECANCELLED, "interrupted");
                return;
            }
            png_read_row(d->png, d->rows[y], NULL);
        }
}

static void decode(decoder *d)
{
    if (setjmp(png_jmpbuf(d->png))) {
        d->status = cn_fail(d->ctx, CN_EFORMAT, "damaged PNG: %s", d->message);
        return;
    }
    png_set_user_limits(d->png, CN_IMAGE_MAX_SIDE, CN_IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(d->png, MAX_CHUNK);
    png_set_keep_unknown_chunks(d->png, PNG_HANDLE_CHUNK_NEVER, skipped, sizeof skipped / 5);
    png_set_read_fn(d->png, d, on_read);
    png_read_info(d->png, d->info);
    set_transforms(d);
    d->status = alloc_rows(d);
    if (d->status != CN_OK) return;
    read_rows(d);
    if (d->status != CN_OK) return;
    png_read_end(d->png, d->info);
    if (png_get_channels(d->png, d->info) == 4) cn_image_flatten_alpha(d->image, d->alpha);
    d->status = turn_upright(d);
}

static cn_status decode_file(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha,
                             cn_image **out)
{
    decoder d = {.ctx = ctx, .p = bytes, .left = n, .alpha = alpha, .status = CN_ENOMEM};
    CN_TRY(check_header(ctx, bytes, n));
    CN_TRY(check_chunks(ctx, bytes, n));
    d.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &d, on_error, on_warning);
    if (d.png) d.info = png_create_info_struct(d.png);
    if (d.info)
        decode(&d);
    else
        (void)cn_fail(ctx, CN_ENOMEM, "no memory for libpng");
    png_destroy_read_struct(&d.png, &d.info, NULL);
    cn_free(d.rows);
    if (d.status == CN_OK)
        *out = d.image;
    else
        cn_image_destroy(d.image);
    return d.status;
}

typedef struct encoder {
    cn_ctx *ctx;
    png_structp png;
    png_infop info;
    const cn_image *image;
    int level; /* 0: LEVEL */
    cn_str bytes;
    png_textp texts;
    int text_count;
    cn_status status;
    char message[128];
} encoder;

static void on_encode_error(png_structp png, png_const_charp message)
{
    encoder *e = png_get_error_ptr(png);
    snprintf(e->message, sizeof e->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_write(png_structp png, png_bytep bytes, png_size_t n)
{
    encoder *e = png_get_io_ptr(png);
    cn_str_add(&e->bytes, (const char *)bytes, n);
    if (e->bytes.failed) png_error(png, "no memory");
}

static void on_flush(png_structp png)
{
    (void)png;
}

static bool is_ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80) return false;
    return true;
}

static cn_status check_key(cn_ctx *ctx, const char *key)
{
    size_t n = strlen(key);
    bool good = n >= 1 && n <= 79 && key[0] != ' ' && key[n - 1] != ' ' && !strstr(key, "  ");
    for (size_t i = 0; i < n && good; i++) good = key[i] >= ' ' && key[i] < 127;
    if (good) return CN_OK;
    return cn_fail(ctx, CN_EINVAL,
                   "PNG text key '%.80s': 1 to 79 printable ASCII characters are needed", key);
}

static cn_status take_texts(encoder *e, const char *const *text)
{
    size_t n = 0;
    while (text && text[2 * n] && text[2 * n + 1]) CN_TRY(check_key(e->ctx, text[2 * n++]));
    if (n == 0) return CN_OK;
    if (n > 10000) return cn_fail(e->ctx, CN_EINVAL, "%zu PNG texts; 10000 at most", n);
    e->texts = cn_alloc0(e->ctx, n * sizeof *e->texts);
    if (!e->texts) return CN_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const char *value = text[2 * i + 1];
        png_textp t = &e->texts[i];
        t->key = (png_charp)(uintptr_t)text[2 * i];
        t->text = (png_charp)(uintptr_t)value;
        if (is_ascii(value)) {
            t->compression = PNG_TEXT_COMPRESSION_NONE;
            t->text_length = strlen(value);
        } else {
            t->compression = PNG_ITXT_COMPRESSION_NONE;
            t->itxt_length = strlen(value);
        }
    }
    e->text_count = (int)n;
    return CN_OK;
}

/* Edges, strokes, classes: whether the picture has no more colours than a few. Its rows compress
 * better and twice as fast as they are than as differences (PNG's filters): where colours stay the
 * same or jump, those are no smaller and repeat less. */
static bool has_few_colours(const cn_image *image)
{
    enum { FEW = 32 };
    const uint8_t *p = image->rgb, *const end = p + 3 * image->width * image->height;
    uint32_t seen[FEW], last = UINT32_MAX;
    int n = 0, k;
    for (; p < end; p += 3) {
        const uint32_t colour = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        if (colour == last) continue;
        last = colour;
        for (k = 0; k < n && seen[k] != colour;) k++;
        if (k == FEW) return false;
        if (k == n) seen[n++] = colour;
    }
    return true;
}

static void encode(encoder *e)
{
    if (setjmp(png_jmpbuf(e->png))) {
        e->status = e->bytes.failed ? cn_fail(e->ctx, CN_ENOMEM, "no memory for a PNG image")
                                    : cn_fail(e->ctx, CN_EINTERNAL, "libpng: %s", e->message);
        return;
    }
    const cn_image *image = e->image;
    png_set_write_fn(e->png, e, on_write, on_flush);
    png_set_compression_level(e->png, e->level ? e->level : LEVEL);
    if (has_few_colours(image)) png_set_filter(e->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);
    png_set_IHDR(e->png, e->info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (e->text_count) png_set_text(e->png, e->info, e->texts, e->text_count);
    png_write_info(e->png, e->info);
    for (int64_t y = 0; y < image->height; y++) {
        if (is_interrupted(e->ctx, image->width, image->height)) {
            e->status = cn_fail(e->ctx, CN_ECANCELLED, "interrupted");
            return;
        }
        png_write_row(e->png, image->rgb + (size_t)y * (size_t)image->width * 3);
    }
    png_write_end(e->png, e->info);
    e->status = CN_OK;
}

static cn_status encode_with(cn_ctx *ctx, const cn_image *image, const char *const *text, int level,
                             uint8_t **out, size_t *out_bytes)
{
    encoder e = {.ctx = ctx, .image = image, .level = level};
    CN_TRY(cn_image_check_size(ctx, image->width, image->height));
    e.status = take_texts(&e, text);
    if (e.status == CN_OK) {
        e.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &e, on_encode_error, on_warning);
        if (e.png) e.info = png_create_info_struct(e.png);
        if (e.info)
            encode(&e);
        else
            e.status = cn_fail(ctx, CN_ENOMEM, "no memory for libpng");
    }
    png_destroy_write_struct(&e.png, &e.info);
    cn_free(e.texts);
    if (e.status != CN_OK) {
        cn_str_free(&e.bytes);
        return e.status;
    }
    *out = (uint8_t *)e.bytes.data;
    *out_bytes = e.bytes.len;
    return CN_OK;
}

cn_status cn_png_encode(cn_ctx *ctx, const cn_image *image, const char *const *text, uint8_t **out,
                        size_t *out_bytes)
{
    return encode_with(ctx, image, text, 0, out, out_bytes);
}

cn_status cn_png_encode_level(cn_ctx *ctx, const cn_image *image, int level, uint8_t **out,
                              size_t *out_bytes)
{
    return encode_with(ctx, image, NULL, level, out, out_bytes);
}

const cn_picture_format cn_picture_png = {
    .name = "PNG", .ending = "png", .size = size, .decode = decode_file};
