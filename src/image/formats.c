/* SPDX-License-Identifier: Apache-2.0 */
/* formats.c - which format a picture has, by its first bytes. */
#include "image/image_internal.h"

#include <string.h>

/* The Makefile says so where a library is missing. */
#ifdef CN_WITHOUT_GIF
#define GIF_ROW NULL
#else
#define GIF_ROW &cn_picture_gif
#endif
#ifdef CN_WITHOUT_TIFF
#define TIFF_ROW NULL
#else
#define TIFF_ROW &cn_picture_tiff
#endif
#ifdef CN_WITHOUT_AVIF
#define AVIF_ROW NULL
#else
#define AVIF_ROW &cn_picture_avif
#endif
#ifdef CN_WITHOUT_JXL
#define JXL_ROW NULL
#else
#define JXL_ROW &cn_picture_jxl
#endif

/* What a file may begin as. format NULL: not read; needs: the library that would read it. */
static const struct signature {
    size_t at, n;
    const char *bytes, *name;
    const cn_picture_format *format;
    const char *needs;
} signatures[] = {
    {0, 8, "\x89PNG\r\n\x1a\n", "a PNG image", &cn_picture_png, NULL},
    {0, 3, "\xff\xd8\xff", "a JPEG image", &cn_picture_jpeg, NULL},
    {8, 4, "WEBP", "a WebP image", &cn_picture_webp, NULL}, /* behind RIFF and a size */
    {0, 6, "GIF87a", "a GIF image", GIF_ROW, "giflib"},
    {0, 6, "GIF89a", "a GIF image", GIF_ROW, "giflib"},
    {0, 4, "II*\0", "a TIFF image", TIFF_ROW, "libtiff"},
    {0, 4, "MM\0*", "a TIFF image", TIFF_ROW, "libtiff"},
    {0, 4, "II+\0", "a BigTIFF image", TIFF_ROW, "libtiff"},
    {0, 4, "MM\0+", "a BigTIFF image", TIFF_ROW, "libtiff"},
    {4, 8, "ftypavif", "an AVIF image", AVIF_ROW, "libavif"},
    {4, 8, "ftypavis", "an AVIF image", AVIF_ROW, "libavif"},
    {0, 2, "\xff\x0a", "a JPEG XL image", JXL_ROW, "libjxl"},
    {0, 8, "\0\0\0\x0cJXL ", "a JPEG XL image", JXL_ROW, "libjxl"},
    {0, 2, "BM", "a BMP image", &cn_picture_bmp, NULL},
    {4, 8, "ftypheic", "a HEIC image", NULL, NULL},
    {4, 8, "ftypheix", "a HEIC image", NULL, NULL},
    {4, 8, "ftypmif1", "a HEIF image", NULL, NULL},
    {0, 4, "8BPS", "a Photoshop file", NULL, NULL},
    {0, 4, "%PDF", "a PDF file", NULL, NULL},
    {0, 4, "PK\3\4", "a zip file", NULL, NULL},
    {0, 4, "PAR1", "a Parquet file", NULL, NULL},
};

static bool begins(const struct signature *s, const uint8_t *p, size_t n)
{
    if (n < s->at + s->n || memcmp(p + s->at, s->bytes, s->n) != 0) return false;
    return s->format != &cn_picture_webp || memcmp(p, "RIFF", 4) == 0;
}

/* "PNG, JPEG, ... and AVIF". */
static void list_read(cn_str *out)
{
    const char *before = NULL;
    for (size_t i = 0; i < CN_COUNT(signatures); i++) {
        const cn_picture_format *f = signatures[i].format;
        if (!f || (before && !strcmp(before, f->name))) continue;
        cn_str_addf(out, "%s%s", before ? ", " : "", f->name);
        before = f->name;
    }
}

static cn_status fail_format(cn_ctx *ctx, const struct signature *known, size_t n)
{
    cn_status status = CN_EFORMAT;
    cn_str list = {0};
    list_read(&list);
    const char *read = list.data ? list.data : "";
    if (known && known->needs)
        status = cn_fail(ctx, CN_EFORMAT, "%s; this build reads %s (it was made without %s)",
                         known->name, read, known->needs);
    else if (known)
        status = cn_fail(ctx, CN_EFORMAT, "%s; %s are read", known->name, read);
    else
        status = cn_fail(ctx, CN_EFORMAT, "not an image of a kind that is read (%s)%s", read,
                         n ? "" : "; the file is empty");
    cn_str_free(&list);
    return status;
}

cn_status cn_picture_format_of(cn_ctx *ctx, const uint8_t *bytes, size_t n,
                               const cn_picture_format **out)
{
    const struct signature *known = NULL;
    for (size_t i = 0; !known && i < CN_COUNT(signatures); i++)
        if (begins(&signatures[i], bytes, n)) known = &signatures[i];
    const cn_picture_format *f = known ? known->format : NULL;
    if (!f) return fail_format(ctx, known, n);
    if (f->library) CN_TRY(cn_library_open(ctx, f->library));
    *out = f;
    return CN_OK;
}
