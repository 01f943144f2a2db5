/* SPDX-License-Identifier: Apache-2.0 */
/* Images: every PNG colour type, JPEG in grey, colour and CMYK with all orientations, WebP, damaged
 * files. */
#include "image/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>
#include <zlib.h>

static char folder[] = "/tmp/cn-image-XXXXXX";
static char path[64];
static cn_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    if (!ctx || !mkdtemp(folder)) return -1;
    cn_ctx_set_max_pixels(ctx, 1 << 28); /* 16384 x 16384 */
    snprintf(path, sizeof path, "%s/x.png", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    unlink(path);
    return rmdir(folder);
}

static cn_image *must_load(const void *bytes, size_t n)
{
    cn_image *image = NULL;
    if (cn_image_load_memory(ctx, bytes, n, &image) != CN_OK) fail_msg("%s", cn_error(ctx));
    /* the size is known without the pixels, upright too */
    int64_t width = 0, height = 0;
    if (cn_image_size_memory(ctx, bytes, n, &width, &height) != CN_OK)
        fail_msg("size: %s", cn_error(ctx));
    assert_int_equal(width, image->width);
    assert_int_equal(height, image->height);
    for (size_t k = 0; k < n; k++) { /* from a part of the file, or not at all */
        if (cn_image_size_memory(ctx, bytes, k, &width, &height) != CN_OK) continue;
        assert_int_equal(width, image->width);
        assert_int_equal(height, image->height);
    }
    return image;
}

static void expect_refused(const void *bytes, size_t n, cn_status status, const char *message)
{
    cn_image *image = NULL;
    cn_status s = cn_image_load_memory(ctx, bytes, n, &image);
    if (s != status || !strstr(cn_error(ctx), message))
        fail_msg("%s '%s': expected '%s'", cn_status_name(s), cn_error(ctx), message);
    assert_null(image);
}

/* --- PNG -------------------------------------------------------------------------------------- */

static void collect(png_structp png, png_bytep bytes, png_size_t n)
{
    cn_str_add(png_get_io_ptr(png), (const char *)bytes, n);
}

static void no_flush(png_structp png)
{
    (void)png;
}

/* W x H of zero bits but for the first pixel's bytes. */
static cn_str make_png(int W, int H, int depth, int color, int interlace, const uint8_t *first,
                       int n)
{
    cn_str out = {0};
    uint8_t row[1024] = {0}, zero[1024] = {0};
    png_color palette[2] = {{10, 20, 30}, {40, 50, 60}};
    png_byte alpha[2] = {255, 51};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &out, collect, no_flush);
    png_set_IHDR(png, info, (png_uint_32)W, (png_uint_32)H, depth, color, interlace, 0, 0);
    if (color == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 2);
        png_set_tRNS(png, info, alpha, 2, NULL);
    }
    png_write_info(png, info);
    memcpy(row, first, (size_t)n);
    int passes = png_set_interlace_handling(png);
    for (int p = 0; p < passes; p++)
        for (int y = 0; y < H; y++) png_write_row(png, y ? zero : row);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return out;
}

static void every_colour_type(void **state)
{
    (void)state;
    static const struct {
        int depth, color, n;
        uint8_t first[8], rgb[3];
    } cases[] = {
        {1, PNG_COLOR_TYPE_GRAY, 1, {0x80}, {255, 255, 255}},
        {2, PNG_COLOR_TYPE_GRAY, 1, {0x40}, {85, 85, 85}},
        {4, PNG_COLOR_TYPE_GRAY, 1, {0x20}, {34, 34, 34}},
        {8, PNG_COLOR_TYPE_GRAY, 1, {77}, {77, 77, 77}},
        {16, PNG_COLOR_TYPE_GRAY, 2, {77, 255}, {77, 77, 77}},
        {8, PNG_COLOR_TYPE_RGB, 3, {1, 2, 3}, {1, 2, 3}},
        {16, PNG_COLOR_TYPE_RGB, 6, {1, 200, 2, 200, 3, 200}, {1, 2, 3}},
        {8, PNG_COLOR_TYPE_RGB_ALPHA, 4, {200, 100, 0, 51}, {244, 224, 204}},
        {16, PNG_COLOR_TYPE_RGB_ALPHA, 8, {200, 9, 100, 9, 0, 9, 51, 9}, {244, 224, 204}},
        {8, PNG_COLOR_TYPE_GRAY_ALPHA, 2, {100, 0}, {255, 255, 255}},
        {8, PNG_COLOR_TYPE_PALETTE, 1, {1}, {212, 214, 216}},
        {1, PNG_COLOR_TYPE_PALETTE, 1, {0x80}, {212, 214, 216}},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++)
        for (int interlace = 0; interlace < 2; interlace++) {
            cn_str file = make_png(9, 5, cases[i].depth, cases[i].color, interlace, cases[i].first,
                                   cases[i].n);
            cn_image *image = must_load(file.data, file.len);
            assert_int_equal(image->width, 9);
            assert_int_equal(image->height, 5);
            assert_memory_equal(image->rgb, cases[i].rgb, 3);
            cn_image_destroy(image);
            for (size_t n = 0; n < file.len; n++) expect_refused(file.data, n, CN_EFORMAT, "");
            cn_str_free(&file);
        }
}

static void png_sizes(void **state)
{
    (void)state;
    uint8_t grey = 5;
    static const uint32_t sizes[][2] = {{0, 5}, {100000, 5}, {5, 0xffffffffu}, {32768, 32768}};
    cn_str file = make_png(9, 5, 8, PNG_COLOR_TYPE_GRAY, 0, &grey, 1);
    for (size_t i = 0; i < CN_COUNT(sizes); i++) {
        for (int k = 0; k < 8; k++) file.data[16 + k] = (char)(sizes[i][k / 4] >> 8 * (3 - k % 4));
        expect_refused(file.data, file.len, CN_EINVAL, "an image of");
    }
    static const char large[] = {0, 0, 0x40, 0, 0, 0, 0x40, 0}; /* 16384 x 16384 in a few bytes */
    memcpy(file.data + 16, large, 8);
    expect_refused(file.data, file.len, CN_EFORMAT, "can't hold");
    cn_str_free(&file);
}

static void other_contents(void **state)
{
    (void)state;
    expect_refused("hello", 5, CN_EFORMAT, "not an image of a kind that is read (PNG, JPEG, WebP");
    expect_refused("", 0, CN_EFORMAT, "empty");
    expect_refused("8BPS\0\1\0\0\0\0", 10, CN_EFORMAT, "a Photoshop file; PNG, JPEG, WebP");
    expect_refused("\0\0\0\x18"
                   "ftypheic\0\0\0\0",
                   16, CN_EFORMAT, "a HEIC image");
    cn_image *image = NULL;
    assert_int_equal(cn_file_write(ctx, path, "just text", 9), CN_OK);
    assert_int_equal(cn_image_load(ctx, path, &image), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "x.png: not an image"));
    assert_int_equal(cn_image_load(ctx, "/nonexistent/x.png", &image), CN_EIO);
}

static void add_chunk(cn_str *file, const char *type, const void *data, size_t n)
{
    const uint8_t length[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                               (uint8_t)n};
    uLong sum = crc32(crc32(0, (const Bytef *)type, 4), data, (uInt)n);
    const uint8_t crc[4] = {(uint8_t)(sum >> 24), (uint8_t)(sum >> 16), (uint8_t)(sum >> 8),
                            (uint8_t)sum};
    cn_str_add(file, (const char *)length, 4);
    cn_str_add(file, type, 4);
    cn_str_add(file, data, n);
    cn_str_add(file, (const char *)crc, 4);
}

/* 100 texts of 7 MB in 7 KB each are neither unpacked nor kept; the one asked for is, up to 8 MB.
 */
static void packed_texts_take_no_memory(void **state)
{
    (void)state;
    enum { TEXTS = 100, LONG = 7 << 20, TOO_LONG = 9 << 20 };
    static uint8_t packed[16384];
    char *text = NULL, *data = NULL, *plain = calloc(TOO_LONG, 1);
    size_t n = 0;
    cn_image *image = NULL;
    cn_str file = {0};
    uLongf m = sizeof packed - 12;
    assert_non_null(plain);
    memset(plain, 'x', TOO_LONG);
    assert_int_equal(cn_image_create(ctx, 4, 4, &image), CN_OK);
    assert_int_equal(cn_image_save_png(ctx, path, image, NULL), CN_OK);
    cn_image_destroy(image);
    assert_int_equal(cn_file_read(ctx, path, 1 << 20, &data, &n), CN_OK);
    cn_str_add(&file, data, 33); /* up to the end of IHDR */
    memcpy(packed, "parametexs\0\0", 12);
    assert_int_equal(compress2(packed + 12, &m, (const Bytef *)plain, LONG, 9), Z_OK);
    for (int i = 0; i < TEXTS; i++) {
        packed[8] = i == TEXTS - 1 ? 'r' : 'x'; /* the last one is "parameters" */
        add_chunk(&file, "zTXt", packed, 12 + m);
    }
    m = sizeof packed - 10;
    memcpy(packed, "too long\0\0", 10);
    assert_int_equal(compress2(packed + 10, &m, (const Bytef *)plain, TOO_LONG, 9), Z_OK);
    add_chunk(&file, "zTXt", packed, 10 + m);
    cn_str_add(&file, data + 33, n - 33);
    assert_int_equal(cn_file_write(ctx, path, file.data, file.len), CN_OK);
    const size_t before = cn_peak_resident_bytes();
    assert_int_equal(cn_image_load(ctx, path, &image), CN_OK);
    cn_image_destroy(image);
    assert_int_equal(cn_png_text(ctx, path, "parameters", &text), CN_OK);
    assert_true(cn_peak_resident_bytes() - before < (size_t)64 << 20);
    assert_int_equal(strlen(text), LONG);
    cn_free(text);
    assert_int_equal(cn_png_text(ctx, path, "too long", &text), CN_OK);
    assert_null(text);
    cn_str_free(&file);
    cn_free(data);
    free(plain);
}

static void saved_images_read_back(void **state)
{
    (void)state;
    cn_image *image = NULL, *back = NULL;
    char *text = NULL;
    const char *const texts[] = {"parameters", "a cat, steps: 20", "Comment",
                                 "\xc3\xa9t\xc3\xa9 \xe7\x8c\xab", NULL};
    const char *const bad[] = {" key", "x", NULL};
    assert_int_equal(cn_image_create(ctx, 31, 17, &image), CN_OK);
    for (size_t i = 0; i < 31 * 17 * 3; i++) image->rgb[i] = (uint8_t)(i * 37);
    assert_int_equal(cn_image_save_png(ctx, path, image, texts), CN_OK);
    assert_int_equal(cn_image_load(ctx, path, &back), CN_OK);
    assert_memory_equal(image->rgb, back->rgb, 31 * 17 * 3);
    assert_int_equal(cn_png_text(ctx, path, "parameters", &text), CN_OK);
    assert_string_equal(text, texts[1]);
    cn_free(text);
    assert_int_equal(cn_png_text(ctx, path, "Comment", &text), CN_OK);
    assert_string_equal(text, texts[3]);
    cn_free(text);
    assert_int_equal(cn_png_text(ctx, path, "absent", &text), CN_OK);
    assert_null(text);
    assert_int_equal(cn_image_save_png(ctx, path, image, bad), CN_EINVAL);
    assert_int_equal(cn_image_save_png(ctx, "/nonexistent/x.png", image, NULL), CN_EIO);
    cn_image_destroy(image);
    cn_image_destroy(back);
    image = NULL;
    assert_int_equal(cn_image_create(ctx, 0, 5, &image), CN_EINVAL);
    assert_int_equal(cn_image_create(ctx, 32769, 1, &image), CN_EINVAL);
    assert_int_equal(cn_image_create(ctx, 32768, 8193, &image), CN_EINVAL);
    assert_null(image);
}

/* --- JPEG ------------------------------------------------------------------------------------- */

/* 16 x 32 pixels in four flat quarters of 8 x 16: values[quarter] (channels each). orientation:
 * EXIF's, 0: none, below 0: none, and no marker of Adobe's. */
static size_t make_jpeg(uint8_t *out, size_t cap, J_COLOR_SPACE space, int channels,
                        const uint8_t values[4][4], int orientation, bool progressive)
{
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    j.err = jpeg_std_error(&errors);
    jpeg_create_compress(&j);
    jpeg_mem_dest(&j, &bytes, &n);
    j.image_width = 16;
    j.image_height = 32;
    j.input_components = channels;
    j.in_color_space = space;
    jpeg_set_defaults(&j);
    if (space == JCS_CMYK) jpeg_set_colorspace(&j, orientation < 0 ? JCS_CMYK : JCS_YCCK);
    if (orientation < 0) j.write_Adobe_marker = FALSE;
    jpeg_set_quality(&j, 100, TRUE);
    j.comp_info[0].h_samp_factor = j.comp_info[0].v_samp_factor = 1;
    if (channels == 4) j.comp_info[3].h_samp_factor = j.comp_info[3].v_samp_factor = 1;
    if (progressive) jpeg_simple_progression(&j);
    jpeg_start_compress(&j, TRUE);
    uint8_t exif[] = "Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\0\0\0\0\0\0\0";
    exif[6 + 8 + 2 + 9] = (uint8_t)orientation;
    if (orientation > 0) jpeg_write_marker(&j, JPEG_APP0 + 1, exif, sizeof exif - 1);
    while (j.next_scanline < 32) {
        uint8_t row[64];
        for (int x = 0; x < 16; x++)
            memcpy(row + x * channels, values[(j.next_scanline / 16) * 2 + (unsigned)x / 8],
                   (size_t)channels);
        JSAMPROW rows = row;
        jpeg_write_scanlines(&j, &rows, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    assert_true(n <= cap);
    memcpy(out, bytes, n);
    free(bytes);
    return n;
}

static void expect_near(const cn_image *image, int64_t x, int64_t y, const uint8_t *rgb)
{
    for (int c = 0; c < 3; c++) /* quality 100: rounding only */
        assert_in_range(image->rgb[3 * (y * image->width + x) + c] + 3 - rgb[c], 0, 6);
}

static const uint8_t quarters[4][4] = {{200, 30, 40}, {20, 180, 60}, {10, 20, 220}, {240, 240, 30}};

static void jpeg_orientations(void **state)
{
    (void)state;
    /* Which quarter of the stored picture lands in the upper left, upper right, lower left, lower
     * right. */
    static const int expected[9][4] = {{0, 1, 2, 3}, {0, 1, 2, 3}, {1, 0, 3, 2},
                                       {3, 2, 1, 0}, {2, 3, 0, 1}, {0, 2, 1, 3},
                                       {2, 0, 3, 1}, {3, 1, 2, 0}, {1, 3, 0, 2}};
    uint8_t file[8192];
    for (int o = 0; o <= 8; o++) {
        size_t n = make_jpeg(file, sizeof file, JCS_RGB, 3, quarters, o, o % 2);
        cn_image *image = must_load(file, n);
        assert_int_equal(image->width, o >= 5 ? 32 : 16);
        assert_int_equal(image->height, o >= 5 ? 16 : 32);
        for (int q = 0; q < 4; q++)
            expect_near(image, image->width * (1 + 2 * (q % 2)) / 4,
                        image->height * (1 + 2 * (q / 2)) / 4, quarters[expected[o][q]]);
        cn_image_destroy(image);
    }
}

static void jpeg_grey_and_cmyk(void **state)
{
    (void)state;
    static const uint8_t grey[4][4] = {{90}, {255}, {0}, {200}};
    /* Adobe's inversion: 255 means no ink. */
    static const uint8_t inks[4][4] = {
        {255, 255, 255, 255}, {255, 0, 0, 255}, {100, 200, 50, 255}, {255, 255, 255, 0}};
    static const uint8_t rgb[4][3] = {{255, 255, 255}, {255, 0, 0}, {100, 200, 50}, {0, 0, 0}};
    uint8_t file[8192];
    size_t n = make_jpeg(file, sizeof file, JCS_GRAYSCALE, 1, grey, 0, false);
    cn_image *image = must_load(file, n);
    for (int q = 0; q < 4; q++) {
        uint8_t v[3] = {grey[q][0], grey[q][0], grey[q][0]};
        expect_near(image, 4 + 8 * (q % 2), 8 + 16 * (q / 2), v);
    }
    cn_image_destroy(image);
    n = make_jpeg(file, sizeof file, JCS_CMYK, 4, inks, 0, false);
    image = must_load(file, n);
    for (int q = 0; q < 4; q++) expect_near(image, 4 + 8 * (q % 2), 8 + 16 * (q / 2), rgb[q]);
    cn_image_destroy(image);
}

/* Without Adobe's marker 255 means full ink. */
static void cmyk_without_adobe(void **state)
{
    (void)state;
    static const uint8_t inks[4][4] = {
        {0, 0, 0, 0}, {0, 255, 255, 0}, {155, 55, 205, 0}, {0, 0, 0, 255}};
    static const uint8_t rgb[4][3] = {{255, 255, 255}, {255, 0, 0}, {100, 200, 50}, {0, 0, 0}};
    uint8_t file[8192];
    size_t n = make_jpeg(file, sizeof file, JCS_CMYK, 4, inks, -1, false);
    cn_image *image = must_load(file, n);
    for (int q = 0; q < 4; q++) expect_near(image, 4 + 8 * (q % 2), 8 + 16 * (q / 2), rgb[q]);
    cn_image_destroy(image);
}

static void damaged_jpegs(void **state)
{
    (void)state;
    uint8_t file[8192];
    size_t n = make_jpeg(file, sizeof file, JCS_RGB, 3, quarters, 6, false);
    for (size_t k = 3; k < n - 2; k++) expect_refused(file, k, CN_EFORMAT, "damaged JPEG");
    for (size_t i = 0; i < n; i++)
        if (file[i] == 0xff && file[i + 1] == 0xc0) { /* the frame's height and width */
            memcpy(file + i + 5, "\x7f\xff\x7f\xff", 4);
            expect_refused(file, n, CN_EINVAL, "an image of 32767 x 32767 px");
            memcpy(file + i + 5, "\x3f\xff\x3f\xff", 4);
            expect_refused(file, n, CN_EFORMAT, "can't hold");
            return;
        }
    fail_msg("no frame header");
}

/* --- WebP ------------------------------------------------------------------------------------- */

static void webp_pictures(void **state)
{
    (void)state;
    uint8_t rgba[8 * 4 * 4], *file = NULL;
    static const uint8_t flat[3] = {244, 224, 204};
    for (size_t i = 0; i < sizeof rgba; i += 4) memcpy(rgba + i, "\xc8\x64\0\x33", 4);
    size_t n = WebPEncodeLosslessRGBA(rgba, 8, 4, 32, &file);
    cn_image *image = must_load(file, n);
    assert_int_equal(image->width, 8);
    assert_int_equal(image->height, 4);
    assert_memory_equal(image->rgb + 31 * 3, flat, 3);
    cn_image_destroy(image);
    for (size_t k = 0; k < n; k++) expect_refused(file, k, CN_EFORMAT, "");
    WebPFree(file);
    for (size_t i = 3; i < sizeof rgba; i += 4) rgba[i] = 255;
    n = WebPEncodeRGBA(rgba, 8, 4, 32, 90, &file);
    image = must_load(file, n);
    assert_in_range(image->rgb[0], 190, 210);
    cn_image_destroy(image);
    WebPFree(file);
    static const uint8_t animated[] = "RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\7\0\0\3\0\0ANIM";
    expect_refused(animated, sizeof animated - 1, CN_EFORMAT, "animated");
}

/* Pictures of 1, 2, 31, 32, 33 and 200 colours, on either side of what is taken for few, come back
 * as they were. */
static void pictures_of_few_colours(void **state)
{
    (void)state;
    enum { SIDE = 64, PIXELS = SIDE * SIDE };
    static uint8_t rgb[PIXELS * 3];
    const int colours[] = {1, 2, 31, 32, 33, 200};
    cn_image picture = {SIDE, SIDE, rgb};
    for (int c = 0; c < 6; c++) {
        uint8_t *png = NULL;
        size_t bytes = 0;
        for (int i = 0; i < PIXELS; i++) {
            const int k = (i / SIDE * 5 + i % SIDE / 3) % colours[c];
            memcpy(rgb + 3 * i, (const uint8_t[]){(uint8_t)k, (uint8_t)(255 - k), 7}, 3);
        }
        assert_int_equal(cn_png_encode(ctx, &picture, NULL, &png, &bytes), CN_OK);
        cn_image *image = must_load(png, bytes);
        assert_memory_equal(image->rgb, rgb, sizeof rgb);
        cn_image_destroy(image);
        cn_free(png);
    }
}

/* Turned by 90 degrees clockwise when shown: what is stored left lies on top. */
static void png_and_webp_orientations(void **state)
{
    (void)state;
    uint8_t exif[] = "Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0";
    uint8_t rgb[8 * 4 * 3], *file = NULL;
    for (int i = 0; i < 8 * 4; i++) memset(rgb + 3 * i, i % 8 < 4 ? 200 : 50, 3);
    cn_image stored = {8, 4, rgb}, *image = NULL;
    uint8_t *png = NULL;
    size_t png_bytes = 0, n;
    assert_int_equal(cn_png_encode(ctx, &stored, NULL, &png, &png_bytes), CN_OK);
    /* behind IHDR, a chunk with the bare TIFF data */
    const size_t tiff = sizeof exif - 1 - 6;
    cn_str with = {0};
    uint8_t chunk[8] = {0, 0, 0, (uint8_t)tiff, 'e', 'X', 'I', 'f'}, sum[4];
    uLong crc = crc32(crc32(0, chunk + 4, 4), exif + 6, (uInt)tiff);
    for (int i = 0; i < 4; i++) sum[i] = (uint8_t)(crc >> 8 * (3 - i));
    cn_str_add(&with, (const char *)png, 33);
    cn_str_add(&with, (const char *)chunk, 8);
    cn_str_add(&with, (const char *)exif + 6, tiff);
    cn_str_add(&with, (const char *)sum, 4);
    cn_str_add(&with, (const char *)png + 33, png_bytes - 33);
    image = must_load(with.data, with.len);
    assert_int_equal(image->width, 4);
    assert_int_equal(image->height, 8);
    assert_int_equal(image->rgb[0], 200);
    assert_int_equal(image->rgb[3 * 4 * 7], 50);
    cn_image_destroy(image);
    cn_str_free(&with);
    cn_free(png);
    n = WebPEncodeLosslessRGB(rgb, 8, 4, 24, &file);
    const size_t padded = (sizeof exif - 1 + 1) & ~(size_t)1;
    uint8_t head[30] = "RIFF....WEBPVP8X\x0a\0\0\0\x08\0\0\0\7\0\0\3\0";
    uint8_t tail[8] = {'E', 'X', 'I', 'F', (uint8_t)(sizeof exif - 1)};
    const size_t riff = sizeof head - 8 + (n - 12) + sizeof tail + padded;
    for (int i = 0; i < 4; i++) head[4 + i] = (uint8_t)(riff >> 8 * i);
    with = (cn_str){0};
    cn_str_add(&with, (const char *)head, sizeof head);
    cn_str_add(&with, (const char *)file + 12, n - 12);
    cn_str_add(&with, (const char *)tail, sizeof tail);
    cn_str_add(&with, (const char *)exif, padded);
    image = must_load(with.data, with.len);
    assert_int_equal(image->width, 4);
    assert_int_equal(image->rgb[0], 200);
    assert_int_equal(image->rgb[3 * 4 * 7], 50);
    cn_image_destroy(image);
    cn_str_free(&with);
    WebPFree(file);
}

static void alpha_as_the_reference(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"in_rgba", "hwc3_rgba"}, {"in_gray", "hwc3_gray"}};
    const char *root = getenv("CN_SHARED");
    for (int i = 0; i < 2; i++) {
        char in[512], expected[512];
        cn_image *a = NULL, *b = NULL;
        snprintf(in, sizeof in, "%s/annotators/resize/%s.png", root ? root : "../shared",
                 names[i][0]);
        snprintf(expected, sizeof expected, "%s/annotators/resize/%s.png",
                 root ? root : "../shared", names[i][1]);
        if (!cn_file_exists(in)) {
            print_message("skipped: %s is not here (CN_SHARED names its folder)\n", in);
            skip();
        }
        assert_int_equal(cn_image_load(ctx, in, &a), CN_OK);
        assert_int_equal(cn_image_load(ctx, expected, &b), CN_OK);
        assert_int_equal(a->width, b->width);
        assert_int_equal(a->height, b->height);
        assert_memory_equal(a->rgb, b->rgb, (size_t)(a->width * a->height * 3));
        cn_image_destroy(a);
        cn_image_destroy(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_colour_type),       cmocka_unit_test(png_sizes),
        cmocka_unit_test(other_contents),          cmocka_unit_test(packed_texts_take_no_memory),
        cmocka_unit_test(saved_images_read_back),  cmocka_unit_test(jpeg_orientations),
        cmocka_unit_test(jpeg_grey_and_cmyk),      cmocka_unit_test(cmyk_without_adobe),
        cmocka_unit_test(pictures_of_few_colours), cmocka_unit_test(png_and_webp_orientations),
        cmocka_unit_test(damaged_jpegs),           cmocka_unit_test(webp_pictures),
        cmocka_unit_test(alpha_as_the_reference),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
