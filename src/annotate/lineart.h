/* SPDX-License-Identifier: Apache-2.0 */
/* lineart.h - line drawings of photographs and of anime.
 *
 * The first from Chan, Durand and Isola: "Learning to generate line drawings that convey geometry
 * and semantics" (2022), fine or coarse; the second a pix2pix U-Net that ControlNet 1.1 trained.
 */
#ifndef CN_ANNOTATE_LINEART_H
#define CN_ANNOTATE_LINEART_H

#include "annotate/maps.h"

/* x: RGB 0..1, sides multiples of 4. out[0]: [1,H,W,1], 0 on lines, 1 on paper. Fine and coarse are
 * the same network with other weights, which only the file's name tells apart. */
extern const cn_network cn_lineart_fine, cn_lineart_coarse;
extern const cn_feed cn_lineart_feed;
/* x: RGB -1..1, sides multiples of 256. out[0]: [1,H,W,1], -1 on lines, 1 on paper. */
extern const cn_network cn_anime_network;
extern const cn_feed cn_anime_feed;

#endif
