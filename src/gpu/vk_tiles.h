/* SPDX-License-Identifier: Apache-2.0 */
/* vk_tiles.h - how much of a product a group of items makes, chosen by measurement.
 *
 * Small products want small tiles, so that every processor of a device has one; large products want
 * large ones, which read less. Each shape is tried with every tile while a plan runs again and
 * again, on its own operands, and keeps the fastest; what was chosen is in a file from then on.
 * Each sum is over the same products in the same order in all tiles, so no choice changes a result.
 */
#ifndef CN_GPU_VK_TILES_H
#define CN_GPU_VK_TILES_H

#include "gpu/kernel_list.h"
#include "gpu/vk_files.h"

/* The first is the one that is used where nothing was measured. */
enum { CN_VK_TILES = 4 };
typedef struct cn_vk_tile {
    int rows, cols; /* of results */
} cn_vk_tile;
extern const cn_vk_tile cn_vk_tiles[CN_VK_TILES];

/* What tells products apart that take other times. */
typedef struct cn_vk_shape {
    int32_t kernel, rows, cols, depth, share;
    int32_t window;  /* kernel, stride, dilation of a convolution */
    int32_t weights; /* how they are stored, and whether operands are rounded */
} cn_vk_shape;

/* A shape's times; `chosen` -1: it is being tried. */
typedef struct cn_vk_choice {
    cn_vk_shape shape;
    int32_t chosen;
    int32_t samples[CN_VK_TILES];
    int32_t asked;              /* how often it was tried */
    float seconds[CN_VK_TILES]; /* the shortest seen */
} cn_vk_choice;

typedef struct cn_vk_chooser {
    cn_vk_choice *list;
    int n, cap;
    int fixed;   /* this tile for all; -1: what is measured */
    bool trying; /* shapes without a choice are tried in turn; else they have the first tile */
    int64_t undecided; /* asked for since somebody set it to 0 */
    bool changed;      /* since the file was read */
    cn_vk_file file;
} cn_vk_chooser;

void cn_vk_tiles_open(const cn_vk_device *d, cn_vk_chooser *out);
/* Writes what is new. */
void cn_vk_tiles_close(cn_vk_chooser *c);
/* The tile of a product. *trial: where its time is to go (cn_vk_tiles_took), -1: nowhere. */
cn_status cn_vk_tiles_choose(cn_ctx *ctx, cn_vk_chooser *c, const cn_vk_shape *s, int *tile,
                             int *trial) CN_CHECKED;
void cn_vk_tiles_took(cn_vk_chooser *c, int trial, int tile, double seconds);

#endif
