/* SPDX-License-Identifier: Apache-2.0 */
/* samples_internal.h - an entry of the sources becomes a picture with its conditions, in three
 * stages that are timed apart: decode, annotate, encode.
 *
 * What comes out follows from the options and the entry alone, whatever the thread, the part of the
 * run and the order. Only src/pipeline includes it.
 */
#ifndef CN_PIPELINE_SAMPLES_INTERNAL_H
#define CN_PIPELINE_SAMPLES_INTERNAL_H

#include "data/buckets.h"
#include "data/shard_writer.h"
#include "pipeline/picture_labels_internal.h"
#include "pipeline/sources_internal.h"

enum { CN_SAMPLE_CONDITIONS = 8, CN_CONDITION_NAME_BYTES = 128 };

/* What is made of every picture. */
typedef struct cn_made_condition {
    int exact; /* the sources' own map of this number; -1: by `condition` */
    cn_condition condition;
    cn_labels labels;
    char name[CN_CONDITION_NAME_BYTES]; /* "canny"; of a second one "canny-2" */
    cn_str settings;                    /* everything that it depends on, in words */
} cn_made_condition;

typedef struct cn_sample_encoder cn_sample_encoder;

typedef struct cn_sample_maker {
    const cn_prepare_options *o;
    cn_sources sources;
    cn_made_condition conditions[CN_SAMPLE_CONDITIONS];
    int n_conditions;
    bool networks;              /* some conditions take all threads for a picture */
    cn_bucket_rules buckets;    /* the sizes that pictures are brought to, where enabled */
    cn_str settings;            /* of all of it, in a line */
    cn_sample_encoder *encoder; /* NULL: nothing is encoded */
    const uint8_t *alike; /* of each entry whether it looks like an earlier one; NULL: none does */
} cn_sample_maker;

/* Checks what goes together, opens sources, labels and networks. close takes a zeroed one. */
cn_status cn_sample_maker_open(cn_ctx *ctx, const cn_prepare_options *o,
                               cn_sample_maker *out) CN_CHECKED;
void cn_sample_maker_close(cn_sample_maker *m);

enum { CN_STAGE_DECODE, CN_STAGE_ANNOTATE, CN_STAGE_ENCODE, CN_STAGE_WRITE, CN_STAGES };

typedef struct cn_sample {
    int64_t index;
    cn_entry entry;        /* its image is the pair's picture; its bytes stay while they are that */
    int64_t width, height; /* before it was resized */
    cn_train_bucket size;  /* that training will have it in; 0: any */
    cn_image *conditions[CN_SAMPLE_CONDITIONS];
    json_t *notes[CN_SAMPLE_CONDITIONS]; /* what chance drew */
    cn_shard_sample made;
    cn_image *fitted;   /* what is left to be encoded, NULL without an encoder: the picture ... */
    char *caption;      /* ... and the caption */
    cn_status status;   /* other than CN_OK: the run ends, for this is not the picture's fault */
    const char *reason; /* why it is left out; NULL: it isn't */
    char text[1024];    /* what happened */
    double seconds[CN_STAGES];
} cn_sample;

/* Reads, filters and resizes entry `index`, and makes the conditions that take one thread. */
void cn_sample_start(const cn_sample_maker *m, cn_ctx *ctx, int64_t index, cn_sample *out);
/* Makes the others, one sample after another. */
void cn_sample_run_networks(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s);
/* Brings it into the form that it has in a shard. Its pictures are freed. */
void cn_sample_encode(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s);
/* Then adds what the encoder makes of it, one sample after another. */
void cn_sample_run_encoder(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s);
void cn_sample_free(cn_sample *s);
/* An entry's perceptual hash; 0 of one that is left out or can't be read, which is no failure. */
cn_status cn_sample_hash(const cn_sample_maker *m, cn_ctx *ctx, int64_t index,
                         uint64_t *out) CN_CHECKED;
/* Of every entry whether it looks like an earlier one (cn_free it); NULL where nobody asks. */
cn_status cn_prepare_lookalikes(cn_ctx *ctx, const cn_sample_maker *m, uint8_t **out) CN_CHECKED;

/* --- sample_encoder.c ------------------------------------------------------------------------- */

/* *out NULL where the options ask for none. */
cn_status cn_sample_encoder_open(cn_ctx *ctx, const cn_prepare_options *o,
                                 const cn_bucket_rules *buckets,
                                 cn_sample_encoder **out) CN_CHECKED;
void cn_sample_encoder_close(cn_sample_encoder *e);
/* What it makes, in words. */
void cn_sample_encoder_describe(const cn_sample_encoder *e, cn_str *out);
/* Memory that it takes. */
size_t cn_sample_encoder_bytes(const cn_sample_encoder *e);
/* s->fitted, from s->made's picture; by any thread. */
cn_status cn_sample_encoder_fit(cn_ctx *ctx, cn_sample *s) CN_CHECKED;
/* Adds the members, of s->fitted and s->caption. */
cn_status cn_sample_encoder_add(cn_sample_encoder *e, cn_ctx *ctx, cn_sample *s) CN_CHECKED;
/* The empty caption's file, unless it is there. */
cn_status cn_sample_encoder_write_empty(cn_sample_encoder *e, cn_ctx *ctx,
                                        const char *dir) CN_CHECKED;

/* --- filters.c -------------------------------------------------------------------------------- */

/* CN_EINVAL for a range that can't be read. */
cn_status cn_filters_check(cn_ctx *ctx, const cn_prepare_options *o) CN_CHECKED;
/* Why an entry is left out by its size, caption and scores, or a condition by how much it shows;
 * NULL: it isn't. */
const char *cn_filter_entry(const cn_prepare_options *o, const cn_entry *e, int64_t width,
                            int64_t height);
const char *cn_filter_condition(const cn_prepare_options *o, const cn_image *condition);
/* Whether entries that look like an earlier one are left out. */
bool cn_filters_drop_lookalikes(const cn_prepare_options *o);
/* The filters in words, for what a data set was made with. */
void cn_filters_describe(const cn_prepare_options *o, cn_str *out);

#endif
