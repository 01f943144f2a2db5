/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_internal.h - what a layout of training pairs is, and what the layouts' files share. */
#ifndef CN_DATA_DATASET_INTERNAL_H
#define CN_DATA_DATASET_INTERNAL_H

#include "data/dataset.h"

#include <jansson.h>

enum { CN_DATASET_PROMPT_BYTES = 64 * 1024 };

/* Faults met while opening: all are told, the first is kept. */
typedef struct cn_dataset_faults {
    const cn_dataset_options *o;
    int64_t n;
    char first[2048];
} cn_dataset_faults;

/* Takes the message that `s` left in ctx as a fault of one pair, CN_OK; any other status than
 * CN_EFORMAT (memory, the disk) is handed back: no use going on. */
cn_status cn_dataset_fault(cn_ctx *ctx, cn_dataset_faults *f, cn_status s) CN_CHECKED;
/* Appends one pair's words to the index. */
cn_status cn_dataset_add(cn_ctx *ctx, cn_dataset *d, const uint64_t *words) CN_CHECKED;
/* "DIR/NAME", or NAME where it is absolute. */
cn_status cn_dataset_path(cn_ctx *ctx, const char *dir, const char *name,
                          char out[CN_PATH_BYTES]) CN_CHECKED;

/* The same where a name with Windows' backslashes for slashes is what is there. */
cn_status cn_dataset_locate(cn_ctx *ctx, const char *dir, const char *name,
                            char out[CN_PATH_BYTES]) CN_CHECKED;
/* What lies near a path that isn't there, "; there is a file 0.png", or "". */
cn_status cn_dataset_describe_missing(cn_ctx *ctx, const char *path, char *out,
                                      size_t cap) CN_CHECKED;
/* A file in dir with this name before its ending, case aside; "": none. */
cn_status cn_dataset_find_stem(cn_ctx *ctx, const char *dir, const char *stem, char *out,
                               size_t cap) CN_CHECKED;
/* CN_EFORMAT where dir holds, or is, a form of data that has to be unpacked first; else CN_OK. */
cn_status cn_dataset_fail_packed(cn_ctx *ctx, const char *dir) CN_CHECKED;

/* Names of the columns in a list of pairs; each picture's may also stand as NAME_file_name. */
typedef struct cn_dataset_columns {
    const char *condition, *target, *prompt;
    const char *target_other; /* another name of the target; NULL: none */
} cn_dataset_columns;

typedef struct cn_dataset_list cn_dataset_list;

/* A way in which pairs lie on disk: a row of dataset_layouts.h. */
struct cn_dataset_layout {
    const char *name;     /* in reports */
    const char *expected; /* what it looks like, for the message where nothing is found */
    /* How it is found: by what `dir` names or holds (NULL: not so), also beside a list where
     * over_lists; by a list of one of these names in the folder, or in its "train" (a Hugging Face
     * split), that `reads` accepts (NULL: each is); or it is what --conditioning-data-dir
     * completes. Of layouts with one list's name the first that reads it has it. */
    bool (*detect)(const char *dir);
    const char *lists[3]; /* NULL at the end */
    bool (*reads)(const char *path);
    bool over_lists, takes_conditions;
    /* open fills d->index and d->found and tells faults; get makes an item from an index entry;
     * close frees d->own (NULL: never opened). */
    cn_status (*open)(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o,
                      cn_dataset_faults *f);
    cn_status (*get)(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                     cn_dataset_item *out);
    void (*close)(cn_dataset *d);
    /* Of lists, whose open, get and close are dataset_list.c's: the columns where no option names
     * others; what stands between the file and a pair's number in messages; `scan` hands every pair
     * to cn_dataset_list_take, `parse` makes an item of a pair's bytes. */
    cn_dataset_columns columns;
    const char *before_number;
    cn_status (*scan)(cn_ctx *ctx, cn_dataset *d, cn_dataset_faults *f);
    cn_status (*parse)(cn_ctx *ctx, const cn_dataset_list *l, const char *where, const char *bytes,
                       size_t n, cn_dataset_item *out);
};

/* --- dataset_list.c: pairs named by the lines or elements of a file --------------------------- */

enum { CN_DATASET_COLUMN_BYTES = 128 };

struct cn_dataset_list {
    int fd;
    char condition[CN_DATASET_COLUMN_BYTES], target[CN_DATASET_COLUMN_BYTES],
        prompt[CN_DATASET_COLUMN_BYTES];
    cn_dataset_columns names;
    int condition_at, target_at, prompt_at; /* CSV: field numbers */
};

/* For a row of a list. */
cn_status cn_dataset_list_open(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o,
                               cn_dataset_faults *f) CN_CHECKED;
cn_status cn_dataset_list_get(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                              cn_dataset_item *out) CN_CHECKED;
void cn_dataset_list_close(cn_dataset *d);

/* Where a pair stands in d's list; number: of its line or element, from 1. */
typedef struct cn_dataset_place {
    int64_t number, begin, bytes;
} cn_dataset_place;
/* The next pair that a scan met. s: whether it could be read so far; item: its names as they stand,
 * freed here. Both pictures must be there. Faults are told. */
cn_status cn_dataset_list_take(cn_ctx *ctx, cn_dataset *d, cn_dataset_faults *f,
                               const cn_dataset_place *place, cn_status s,
                               cn_dataset_item *item) CN_CHECKED;
/* "prompt.json:3". */
cn_status cn_dataset_list_where(cn_ctx *ctx, const cn_dataset *d, int64_t number,
                                char out[CN_PATH_BYTES + 32]) CN_CHECKED;
/* A copy of a string, checked; is_path: it names a file. */
cn_status cn_dataset_take_text(cn_ctx *ctx, const char *where, const char *key, const char *text,
                               size_t n, bool is_path, char **out) CN_CHECKED;
/* The three values of a JSON object. */
cn_status cn_dataset_item_from_json(cn_ctx *ctx, const cn_dataset_columns *c, const char *where,
                                    const json_t *object, cn_dataset_item *item) CN_CHECKED;
/* A row's parse, of JSON text. */
cn_status cn_dataset_parse_json(cn_ctx *ctx, const cn_dataset_list *l, const char *where,
                                const char *bytes, size_t n, cn_dataset_item *item) CN_CHECKED;

/* --- dataset_shards.c: what else shards hold of a pair ---------------------------------------- */

typedef struct cn_shard_member {
    const char *key; /* key_bytes of it; those of one key stand together */
    size_t key_bytes;
    const char *ending;
    uint64_t shard; /* keys of different ones are different pairs' */
    uint64_t place; /* in all shards; it grows */
} cn_shard_member;

/* Whether the data set is of shards; only then the others may be called. */
bool cn_shard_members_there(const cn_dataset *d);
/* The place of pair i's picture. Pairs are in the order of members. */
uint64_t cn_shard_members_target(const cn_dataset *d, int64_t i);
/* Every member in order, also those that belong to no pair. */
cn_status cn_shard_members_visit(cn_ctx *ctx, const cn_dataset *d,
                                 void (*visit)(void *user, const cn_shard_member *m),
                                 void *user) CN_CHECKED;
/* For cn_tar_read. */
const char *cn_shard_members_path(const cn_dataset *d, uint64_t place, int64_t *position);

#endif
