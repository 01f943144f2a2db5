/* SPDX-License-Identifier: Apache-2.0 */
/* buckets.h - the sizes that a run's pictures are fitted to, and which picture goes to which.
 *
 * Without --enable-bucket there is one. With it pictures keep about their proportions: sizes of at
 * most the resolution's area with sides in steps, each picture in the size nearest to its
 * proportions, scaled to cover it and cropped (kohya's scripts, library/train_util.py
 * BucketManager, model_util.py make_bucket_resolutions).
 *
 * A pass holds pictures of one size only, of all ranks together `unit` of them. An epoch is cut
 * into such units, the last one of a size filled up with that size's first pictures.
 */
#ifndef CN_DATA_BUCKETS_H
#define CN_DATA_BUCKETS_H

#include "image/resize.h"
#include "data/dataset.h"

typedef struct cn_bucket_rules {
    bool enabled;
    int64_t resolution;         /* px; without buckets the side of the one size */
    int64_t min_reso, max_reso; /* of a side, multiples of steps */
    int64_t steps;
    bool no_upscale; /* pictures are shrunk at most: sizes follow from theirs, min and max don't
                        count */
} cn_bucket_rules;

enum { CN_MAX_BUCKETS = 256, CN_NO_BUCKET = 0xffff };

typedef struct cn_buckets {
    cn_bucket_rules rules;
    int64_t items; /* pictures, those in no bucket counted in */
    int n;
    cn_train_bucket list[CN_MAX_BUCKETS]; /* by width, then height; those that have pictures */
    bool resized; /* with buckets: some picture isn't of its bucket's size */
    /* [items], NULL: all are in the one bucket, in their order */
    uint16_t *of;    /* CN_NO_BUCKET: can't be read */
    uint32_t *place; /* which of its bucket's pictures it is */
} cn_buckets;

/* What a run's options ask for: min and max rounded to steps, 0 as the header says. */
cn_bucket_rules cn_bucket_rules_of(const cn_train_options *o);
/* CN_EINVAL for options of buckets that don't go together. */
cn_status cn_bucket_options_check(cn_ctx *ctx, const cn_train_options *o) CN_CHECKED;

/* Rows of these options for structs with cn_train_options' fields; absent: preset, or unset. */
#define CN_BUCKET_MIN_ROW(options)                                                       \
    {                                                                                    \
        "min-bucket-reso", 0, "least side", CN_FIELD(options, min_bucket_reso), 1, 8192, \
            .unset = "256, or half of --resolution", .arg = "PX"                         \
    }
#define CN_BUCKET_MAX_ROW(options)                                                         \
    {                                                                                      \
        "max-bucket-reso", 0, "largest side", CN_FIELD(options, max_bucket_reso), 1, 8192, \
            .unset = "1024, or twice --resolution", .arg = "PX"                            \
    }
#define CN_BUCKET_STEPS_ROW(options, absent)                                                       \
    {                                                                                              \
        "bucket-reso-steps", 0, "sides are multiples of it", CN_FIELD(options, bucket_reso_steps), \
            1, 8192, .absent = "64", .arg = "PX"                                                   \
    }
#define CN_BUCKET_NO_UPSCALE_ROW(options)                                         \
    {                                                                             \
        "bucket-no-upscale", 0, "never enlarge: sizes follow from the pictures'", \
            CN_FIELD(options, bucket_no_upscale)                                  \
    }

/* One size for all of n pictures. */
cn_status cn_buckets_create_one(cn_ctx *ctx, int64_t width, int64_t height, int64_t n,
                                cn_buckets **out) CN_CHECKED;
/* Looks at the headers of the data set's first n pictures on all threads. skip_bad: one that can't
 * be read is named in the log and in no bucket; else it is an error. progress may be NULL. */
cn_status cn_buckets_create(cn_ctx *ctx, const cn_dataset *d, int64_t n,
                            const cn_bucket_rules *rules, bool skip_bad,
                            void (*progress)(void *user, const char *what, int64_t done,
                                             int64_t total),
                            void *user, cn_buckets **out) CN_CHECKED;
void cn_buckets_destroy(cn_buckets *b);

/* The bucket of picture i; its place there. */
int cn_buckets_of(const cn_buckets *b, int64_t i);
int64_t cn_buckets_place(const cn_buckets *b, int64_t i);
/* The one with the most pixels. */
int cn_buckets_largest(const cn_buckets *b);
/* Samples of an epoch that is cut into units. */
int64_t cn_buckets_epoch(const cn_buckets *b, int64_t unit);

/* Pair i's pictures as its bucket has them; x, y: where the crop lies (cn_crop). Either output may
 * be NULL. */
cn_status cn_buckets_load(cn_ctx *ctx, const cn_dataset *d, const cn_buckets *b, int bucket,
                          int64_t i, double x, double y, cn_image **condition,
                          cn_image **target) CN_CHECKED;

/* How much of a picture of this size its bucket shows (cn_crop's zoom): 1 but under no_upscale. */
double cn_bucket_zoom(const cn_bucket_rules *rules, const cn_train_bucket *bucket, int64_t width,
                      int64_t height);
/* The size for a picture; false: it has none (smaller than a step under no_upscale). */
bool cn_bucket_choose(const cn_bucket_rules *rules, int64_t width, int64_t height,
                      cn_train_bucket *out);
/* Every size that there can be with upscaling, by width, then height; how many. */
int cn_bucket_sizes(const cn_bucket_rules *rules, cn_train_bucket out[CN_MAX_BUCKETS]);

#endif
