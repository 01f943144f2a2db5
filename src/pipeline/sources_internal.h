/* SPDX-License-Identifier: Apache-2.0 */
/* sources_internal.h - where `dataset prepare` gets pictures and captions: an entry each, fetched
 * by number, in an order that doesn't change between runs.
 *
 * A kind of source is a row of sources.c and a file of its own. What stays in memory of an entry is
 * nothing (drawn ones), 24 bytes (tar shards) or its name (folders). Only src/pipeline includes it.
 */
#ifndef CN_PIPELINE_SOURCES_INTERNAL_H
#define CN_PIPELINE_SOURCES_INTERNAL_H

#include "image/image.h"

#include <jansson.h>

/* One picture and what is known of it: a file's bytes, or the picture itself where it was drawn. */
typedef struct cn_entry {
    char *name;  /* within its source */
    size_t stem; /* bytes of it before the ending: with the seed they decide what chance draws */
    char *where; /* names it in errors */
    char *caption;
    bool captioned; /* the caption is its own, not the one for those without */
    char *bytes;
    size_t n_bytes;
    cn_image *image;
    json_t *json; /* what came with it (KEY.json); NULL */
} cn_entry;

void cn_entry_free(cn_entry *e);

typedef struct cn_source cn_source;

typedef struct cn_source_kind {
    const char *name;
    bool (*detect)(const char *text);
    /* Fills n and own. */
    cn_status (*open)(cn_ctx *ctx, const cn_prepare_options *o, cn_source *s);
    /* Entry i; zeroed before. CN_EFORMAT: it alone can't be had. Any number of threads, a context
     * each. */
    cn_status (*get)(cn_ctx *ctx, const cn_source *s, int64_t i, cn_entry *out);
    void (*close)(cn_source *s);
    /* Of drawn sources: the number of an exact map by its name, or -1; n maps of entry i, each of
     * its picture's size and allocated. NULL: there are none. */
    int (*find_exact)(const char *name);
    cn_status (*exact)(cn_ctx *ctx, const cn_source *s, int64_t i, int n, const int *which,
                       cn_image *const *out);
} cn_source_kind;

struct cn_source {
    const cn_source_kind *kind;
    char text[CN_PATH_BYTES]; /* as it was given */
    int64_t n;                /* that it has */
    int64_t taken;            /* entries of all sources that are its: n times its weight */
    void *own;
};

extern const cn_source_kind cn_source_scenes, cn_source_circles, cn_source_tars, cn_source_folder;

enum { CN_MAX_SOURCES = 64 };

/* Several sources one behind the other. */
typedef struct cn_sources {
    cn_source list[CN_MAX_SOURCES];
    int count;
    int64_t n; /* entries in all */
} cn_sources;

cn_status cn_sources_open(cn_ctx *ctx, const cn_prepare_options *o, cn_sources *out) CN_CHECKED;
void cn_sources_close(cn_sources *s);
/* Where an entry of all comes from. */
typedef struct cn_source_place {
    const cn_source *source;
    int64_t number; /* there */
    int64_t repeat; /* how often it was taken before */
} cn_source_place;
cn_source_place cn_sources_find(const cn_sources *s, int64_t i);
/* The number of an exact map that every source has, or -1. */
int cn_sources_exact(const cn_sources *s, const char *name);

/* Whether a source is a folder of pictures, by its text. */
bool cn_source_is_folder(const char *text);
/* Of the folder: its real path, and the names of the pictures in it. */
const char *cn_source_folder_path(const cn_source *s);
const char *cn_source_folder_name(const cn_source *s, int64_t i);

#endif
