/* SPDX-License-Identifier: Apache-2.0 */
/* raster.h - lines, disks and filled polygons on a picture, pixel for pixel as OpenCV draws them
 * without anti-aliasing.
 *
 * Points are whole pixels, x to the right, y down, and may lie outside the picture: what is outside
 * is left out. Coordinates beyond CN_DRAW_REACH are brought to it.
 */
#ifndef CN_IMAGE_RASTER_H
#define CN_IMAGE_RASTER_H

#include "base/base.h"
#include "image/image.h"

enum { CN_DRAW_REACH = 1 << 20, CN_ELLIPSE_POINTS = 361 };

typedef struct cn_point {
    int64_t x, y;
} cn_point;

/* One pixel wide, 8-connected, both ends included; of a line that leaves the picture the part
 * inside is drawn as a line of its own. */
void cn_draw_line(cn_image *image, cn_point a, cn_point b, const uint8_t rgb[3]);
/* The same `width` pixels wide, with round ends; width >= 2. */
void cn_draw_wide_line(cn_image *image, cn_point a, cn_point b, int width, const uint8_t rgb[3]);
/* All pixels of a midpoint circle. radius >= 0. */
void cn_draw_disk(cn_image *image, cn_point centre, int64_t radius, const uint8_t rgb[3]);
/* Outline and inside of a convex polygon of n >= 1 corners, closed by itself. */
void cn_draw_convex(cn_image *image, const cn_point *corners, int n, const uint8_t rgb[3]);
/* Corners of an ellipse with half axes a and b (a turned by `degrees`, clockwise on the picture),
 * one per degree, rounded, without repetitions; returns how many. */
int cn_ellipse_polygon(cn_point centre, int64_t a, int64_t b, int degrees,
                       cn_point corners[CN_ELLIPSE_POINTS]);

#endif
