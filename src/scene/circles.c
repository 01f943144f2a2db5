/* SPDX-License-Identifier: Apache-2.0 */
/* circles.c - Fill50K's own pictures: the outline of a circle, and the circle filled in a named
 * colour on a ground of another, told as "pale golden rod circle with old lace background".
 *
 * Everything follows from (seed, index). Circles lie wholly inside; the two colours differ by at
 * least 64 in one channel, so that an edge detector with usual thresholds finds the circle again.
 */
#include "scene/circles.h"

#include "scene/pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* CSS Color Module Level 4's named colours, names as words, the second spelling of grey left
 * out. */
static const struct {
    const char *name;
    uint32_t rgb;
} colours[] = {{"alice blue", 0xf0f8ff},
               {"antique white", 0xfaebd7},
               {"aqua", 0x00ffff},
               {"aquamarine", 0x7fffd4},
               {"azure", 0xf0ffff},
               {"beige", 0xf5f5dc},
               {"bisque", 0xffe4c4},
               {"black", 0x000000},
               {"blanched almond", 0xffebcd},
               {"blue", 0x0000ff},
               {"blue violet", 0x8a2be2},
               {"brown", 0xa52a2a},
               {"burly wood", 0xdeb887},
               {"cadet blue", 0x5f9ea0},
               {"chartreuse", 0x7fff00},
               {"chocolate", 0xd2691e},
               {"coral", 0xff7f50},
               {"cornflower blue", 0x6495ed},
               {"cornsilk", 0xfff8dc},
               {"crimson", 0xdc143c},
               {"cyan", 0x00ffff},
               {"dark blue", 0x00008b},
               {"dark cyan", 0x008b8b},
               {"dark golden rod", 0xb8860b},
               {"dark gray", 0xa9a9a9},
               {"dark green", 0x006400},
               {"dark khaki", 0xbdb76b},
               {"dark magenta", 0x8b008b},
               {"dark olive green", 0x556b2f},
               {"dark orange", 0xff8c00},
               {"dark orchid", 0x9932cc},
               {"dark red", 0x8b0000},
               {"dark salmon", 0xe9967a},
               {"dark sea green", 0x8fbc8f},
               {"dark slate blue", 0x483d8b},
               {"dark slate gray", 0x2f4f4f},
               {"dark turquoise", 0x00ced1},
               {"dark violet", 0x9400d3},
               {"deep pink", 0xff1493},
               {"deep sky blue", 0x00bfff},
               {"dim gray", 0x696969},
               {"dodger blue", 0x1e90ff},
               {"fire brick", 0xb22222},
               {"floral white", 0xfffaf0},
               {"forest green", 0x228b22},
               {"fuchsia", 0xff00ff},
               {"gainsboro", 0xdcdcdc},
               {"ghost white", 0xf8f8ff},
               {"gold", 0xffd700},
               {"golden rod", 0xdaa520},
               {"gray", 0x808080},
               {"green", 0x008000},
               {"green yellow", 0xadff2f},
               {"honey dew", 0xf0fff0},
               {"hot pink", 0xff69b4},
               {"indian red", 0xcd5c5c},
               {"indigo", 0x4b0082},
               {"ivory", 0xfffff0},
               {"khaki", 0xf0e68c},
               {"lavender", 0xe6e6fa},
               {"lavender blush", 0xfff0f5},
               {"lawn green", 0x7cfc00},
               {"lemon chiffon", 0xfffacd},
               {"light blue", 0xadd8e6},
               {"light coral", 0xf08080},
               {"light cyan", 0xe0ffff},
               {"light golden rod yellow", 0xfafad2},
               {"light gray", 0xd3d3d3},
               {"light green", 0x90ee90},
               {"light pink", 0xffb6c1},
               {"light salmon", 0xffa07a},
               {"light sea green", 0x20b2aa},
               {"light sky blue", 0x87cefa},
               {"light slate gray", 0x778899},
               {"light steel blue", 0xb0c4de},
               {"light yellow", 0xffffe0},
               {"lime", 0x00ff00},
               {"lime green", 0x32cd32},
               {"linen", 0xfaf0e6},
               {"magenta", 0xff00ff},
               {"maroon", 0x800000},
               {"medium aqua marine", 0x66cdaa},
               {"medium blue", 0x0000cd},
               {"medium orchid", 0xba55d3},
               {"medium purple", 0x9370db},
               {"medium sea green", 0x3cb371},
               {"medium slate blue", 0x7b68ee},
               {"medium spring green", 0x00fa9a},
               {"medium turquoise", 0x48d1cc},
               {"medium violet red", 0xc71585},
               {"midnight blue", 0x191970},
               {"mint cream", 0xf5fffa},
               {"misty rose", 0xffe4e1},
               {"moccasin", 0xffe4b5},
               {"navajo white", 0xffdead},
               {"navy", 0x000080},
               {"old lace", 0xfdf5e6},
               {"olive", 0x808000},
               {"olive drab", 0x6b8e23},
               {"orange", 0xffa500},
               {"orange red", 0xff4500},
               {"orchid", 0xda70d6},
               {"pale golden rod", 0xeee8aa},
               {"pale green", 0x98fb98},
               {"pale turquoise", 0xafeeee},
               {"pale violet red", 0xdb7093},
               {"papaya whip", 0xffefd5},
               {"peach puff", 0xffdab9},
               {"peru", 0xcd853f},
               {"pink", 0xffc0cb},
               {"plum", 0xdda0dd},
               {"powder blue", 0xb0e0e6},
               {"purple", 0x800080},
               {"rebecca purple", 0x663399},
               {"red", 0xff0000},
               {"rosy brown", 0xbc8f8f},
               {"royal blue", 0x4169e1},
               {"saddle brown", 0x8b4513},
               {"salmon", 0xfa8072},
               {"sandy brown", 0xf4a460},
               {"sea green", 0x2e8b57},
               {"sea shell", 0xfff5ee},
               {"sienna", 0xa0522d},
               {"silver", 0xc0c0c0},
               {"sky blue", 0x87ceeb},
               {"slate blue", 0x6a5acd},
               {"slate gray", 0x708090},
               {"snow", 0xfffafa},
               {"spring green", 0x00ff7f},
               {"steel blue", 0x4682b4},
               {"tan", 0xd2b48c},
               {"teal", 0x008080},
               {"thistle", 0xd8bfd8},
               {"tomato", 0xff6347},
               {"turquoise", 0x40e0d0},
               {"violet", 0xee82ee},
               {"wheat", 0xf5deb3},
               {"white", 0xffffff},
               {"white smoke", 0xf5f5f5},
               {"yellow", 0xffff00},
               {"yellow green", 0x9acd32}};

enum { LEAST_CONTRAST = 64, SAMPLES = 4 };

static uint8_t channel(int colour, int c)
{
    return (uint8_t)(colours[colour].rgb >> (16 - 8 * c));
}

static int contrast(int a, int b)
{
    int most = 0;
    for (int c = 0; c < 3; c++) most = CN_MAX(most, abs(channel(a, c) - channel(b, c)));
    return most;
}

void cn_circle_generate(uint64_t seed, uint64_t index, cn_circle *out)
{
    cn_rng r;
    cn_rng_seed(&r, cn_hash64((const uint64_t[]){seed, index}, 2 * sizeof seed));
    out->radius = 0.06f + 0.24f * cn_rng_uniform(&r);
    const float room = 1 - 2 * (out->radius + 0.02f);
    out->x = out->radius + 0.02f + room * cn_rng_uniform(&r);
    out->y = out->radius + 0.02f + room * cn_rng_uniform(&r);
    do {
        out->colour = (int)cn_rng_below(&r, CN_COUNT(colours));
        out->ground = (int)cn_rng_below(&r, CN_COUNT(colours));
    } while (contrast(out->colour, out->ground) < LEAST_CONTRAST);
    snprintf(out->caption, sizeof out->caption, "%s circle with %s background",
             colours[out->colour].name, colours[out->ground].name);
}

/* Parts of the pixel inside the circle, of SAMPLES x SAMPLES. */
static int inside(const cn_circle *circle, int64_t size, int64_t x, int64_t y)
{
    int n = 0;
    for (int i = 0; i < SAMPLES * SAMPLES; i++) {
        const float px = ((float)x + ((float)(i % SAMPLES) + 0.5f) / SAMPLES) / (float)size;
        const float py = ((float)y + ((float)(i / SAMPLES) + 0.5f) / SAMPLES) / (float)size;
        n += hypotf(px - circle->x, py - circle->y) < circle->radius;
    }
    return n;
}

void cn_circle_render(const cn_circle *circle, int64_t size, uint8_t *picture, uint8_t *condition)
{
    const float width = fmaxf(1, (float)(size / 256)) / (float)size; /* of the outline */
    for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++) {
            const int n = inside(circle, size, x, y), all = SAMPLES * SAMPLES;
            const float distance = hypotf(((float)x + 0.5f) / (float)size - circle->x,
                                          ((float)y + 0.5f) / (float)size - circle->y);
            const bool line = fabsf(circle->radius - distance) <= width / 2;
            uint8_t *p = picture + 3 * (y * size + x);
            for (int c = 0; c < 3; c++)
                p[c] = (uint8_t)((n * channel(circle->colour, c) +
                                  (all - n) * channel(circle->ground, c) + all / 2) /
                                 all);
            memset(condition + 3 * (y * size + x), line ? 255 : 0, 3);
        }
}

/* --- as a folder ------------------------------------------------------------------------------ */

static cn_status draw_circle(const void *user, cn_ctx *ctx, int64_t index, cn_image *picture,
                             cn_image *condition)
{
    (void)ctx;
    const cn_circle_dataset *o = user;
    cn_circle circle;
    cn_circle_generate(o->seed, (uint64_t)index, &circle);
    cn_circle_render(&circle, o->size_px, picture->rgb, condition->rgb);
    return CN_OK;
}

static void tell_circle(const void *user, int64_t index, char *out, size_t cap)
{
    const cn_circle_dataset *o = user;
    cn_circle circle;
    cn_circle_generate(o->seed, (uint64_t)index, &circle);
    snprintf(out, cap, "%s", circle.caption);
}

cn_status cn_circle_write_dataset(cn_ctx *ctx, const cn_circle_dataset *o)
{
    return cn_pairs_write(ctx, &(cn_pairs){.what = "circles",
                                           .version = 1,
                                           .dir = o->dir,
                                           .n = o->n,
                                           .first_index = o->first_index,
                                           .seed = o->seed,
                                           .size_px = o->size_px,
                                           .condition = "canny",
                                           .draw = draw_circle,
                                           .caption = tell_circle,
                                           .user = o,
                                           .progress = o->progress,
                                           .progress_user = o->progress_user});
}
