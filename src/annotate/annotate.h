/* SPDX-License-Identifier: Apache-2.0 */
/* annotate.h - the kinds of condition there are, each with its options, behind one call.
 *
 * A kind is a row of the table in kinds.h: name, options with their ranges and defaults, the
 * networks it runs (network.h), run(), and what else is to know of its conditions. The command
 * line, the demo, drawing, training and the data set tools read this table; none of them lists
 * kinds.
 */
#ifndef CN_ANNOTATE_ANNOTATE_H
#define CN_ANNOTATE_ANNOTATE_H

#include "image/resize.h"
#include "graph/backend.h"
#include "io/npy.h"

enum {
    CN_ANNOTATE_MAX_OPTIONS = 8,
    CN_ANNOTATE_LINKS = 4, /* kinds behind each other */
    CN_KIND_NETWORKS = 4,
    CN_KIND_ALIASES = 10 /* with the empty one behind the last */
};

typedef enum cn_option_type { CN_OPTION_NUMBER, CN_OPTION_INT, CN_OPTION_BOOL } cn_option_type;

typedef struct cn_kind_option {
    const char *name, *help;
    cn_option_type type;
    double min, max, otherwise; /* a bool is 0 or 1 */
} cn_kind_option;

/* What a kind makes conditions from. */
typedef enum cn_takes {
    CN_TAKES_PICTURE,
    CN_TAKES_LABELS, /* pictures whose values are classes: never resized */
    CN_TAKES_ARRAY,  /* .npy */
    CN_TAKES_COCO    /* instances_*.json */
} cn_takes;

/* How two conditions of a kind are compared; eval/agreement.h computes it. */
typedef enum cn_measure {
    CN_MEASURE_NONE,
    CN_MEASURE_EDGES,   /* F1 of edge pixels with a pixel of tolerance */
    CN_MEASURE_CLASSES, /* mean IoU of classes in ADE20K's colours */
    CN_MEASURE_DEPTH,   /* R2 after scale and shift; error: RMSE in percent of the range */
    CN_MEASURE_NORMALS, /* 1 - angle / pi; error: the mean angle in degrees */
    CN_MEASURE_POSE     /* F1 of key points, each counting with COCO's key point similarity */
} cn_measure;

/* What a flip of the picture, left for right, does to its condition. */
typedef enum cn_mirror {
    CN_MIRROR_OFF,         /* the flipped picture's condition can't be made of this one */
    CN_MIRROR_PLAIN,       /* it is flipped too: edges, depth, segmentation */
    CN_MIRROR_NORMALS,     /* flipped, and x, in red, changes its sign */
    CN_MIRROR_NORMALS_BGR, /* flipped, and x, in blue, changes its sign */
    CN_MIRROR_INPUT        /* what it does to the picture that the condition is made from */
} cn_mirror;

typedef struct cn_kind cn_kind;
typedef struct cn_network cn_network;
typedef struct cn_session cn_session;

/* Filled by cn_annotate_read or cn_annotate_defaults, then by cn_annotate_set. */
typedef struct cn_annotate_args {
    const cn_kind *kind;
    double values[CN_ANNOTATE_MAX_OPTIONS]; /* in the order of kind->options */
    int64_t resolution; /* the condition has the size of cn_image_resize_64's; 0: the picture's */
    int64_t detect_resolution; /* the annotator sees the picture at this one; 0: at the condition's
                                  size */
    /* Paths of the networks' files, or of folders with files of their published names; NULL at the
     * end. Borrowed, as the list itself; NULL for none. */
    const char *const *weights;
    uint64_t seed; /* for kinds with chance */
} cn_annotate_args;

/* A network that a kind takes. Networks of one role do the same work: one of them is wanted. A kind
 * can't do without role 0; it asks for the others when it needs them. */
typedef struct cn_kind_network {
    const cn_network *net;
    int role;
} cn_kind_network;

/* Another name that users know. */
typedef struct cn_kind_alias {
    const char *name, *stands_for; /* the kind, settings behind it: "hed safe=1" */
} cn_kind_alias;

struct cn_kind {
    const char *name, *title;
    /* As stable-diffusion-webui's ControlNet extension and diffusers' controlnet_aux call it; an
     * empty one behind the last. */
    cn_kind_alias aliases[CN_KIND_ALIASES];
    const cn_kind_option *options; /* CN_KIND_OPTIONS */
    int n_options;
    /* `in` has the size that the annotator shall see. *out: of any size, brought to the condition's
     * by map_filter; cn_image_destroy it. NULL for kinds that take arrays or COCO's file. */
    cn_status (*run)(cn_session *s, const cn_image *in, cn_image **out);
    cn_kind_network networks[CN_KIND_NETWORKS]; /* the rest is NULL */
    int multiple;                               /* sides it can see are multiples of it; 0: any */
    int least;                                  /* of a side it can see, a multiple; 0: any */
    cn_filter map_filter;
    int detect_px; /* detect_resolution where none is asked for; 0: the condition's size */
    cn_takes takes;
    const char *suffix; /* CN_TAKES_ARRAY: how a data set's files of this kind end */
    /* CN_TAKES_ARRAY: in place of run. valid: NULL, or a mask that is 0 at holes. */
    cn_status (*run_array)(cn_ctx *ctx, const cn_annotate_args *args, const cn_npy *array,
                           const cn_npy *valid, cn_image **out);
    /* Samples the thresholds; NULL: it has none. */
    void (*randomize)(cn_annotate_args *args, cn_rng *rng);
    bool seeded;        /* run() depends on args->seed */
    cn_measure measure; /* compares two conditions of this kind */
    cn_mirror mirror;
    cn_mirror (*mirror_by)(const cn_annotate_args *args); /* where settings decide, else NULL */
    /* Of kinds that take labels or arrays: the kind that finds the same in a picture, in the same
     * colours; NULL. */
    const char *from_picture;
};

/* A row's options with their number. */
#define CN_KIND_OPTIONS(list) .options = (list), .n_options = CN_COUNT(list)

/* --- kinds.c ---------------------------------------------------------------------------------- */

int cn_kind_count(void);
/* NULL outside 0..count-1. */
const cn_kind *cn_kind_at(int i);
/* The aliases of all kinds, one after the other. False behind the last. */
bool cn_kind_alias_at(int i, const char **name, const char **stands_for);
/* What an alias stands for; NULL for a name that is none. */
const char *cn_kind_alias_meaning(const char *name);
/* Names match with '-' for '_'; the first n characters of `given` count. */
bool cn_same_name(const char *name, const char *given, size_t n);
/* NULL when there is none of that name, aliases included; '-' and '_' are the same. */
const cn_kind *cn_kind_find(const char *name);
/* The same, with an error that lists the names there are. */
cn_status cn_kind_need(cn_ctx *ctx, const char *name, const cn_kind **out) CN_CHECKED;

/* --- kind_options.c --------------------------------------------------------------------------- */

void cn_annotate_defaults(const cn_kind *kind, cn_annotate_args *args);
/* CN_EINVAL for an unknown option, a value that isn't of its type, or one out of range. */
cn_status cn_annotate_set(cn_ctx *ctx, cn_annotate_args *args, const char *name,
                          const char *value) CN_CHECKED;
/* The same from "name=value"; a bare name switches a bool on. */
cn_status cn_annotate_parse(cn_ctx *ctx, cn_annotate_args *args, const char *text) CN_CHECKED;
/* "canny low=100 high=200 l2=0": every option, so that the same can be asked for again. */
void cn_annotate_describe(const cn_annotate_args *args, cn_str *out);
/* "pictures (PNG, JPEG, WebP, ...)", for messages. */
const char *cn_takes_name(cn_takes takes);
/* A kind with settings in words, "canny low=50, high=100": everything not said has its default. */
cn_status cn_annotate_read(cn_ctx *ctx, const char *text, cn_annotate_args *args) CN_CHECKED;

/* Kinds that each take what the one before made, as the maker of a data set noted them: "hed safe=1
 * | scribble_synthesis seed=3". Behind the last kind, words from the first on that is none of its
 * settings belong to the run that made the conditions and are passed over. *n: how many. */
cn_status cn_annotate_read_noted(cn_ctx *ctx, const char *text,
                                 cn_annotate_args links[CN_ANNOTATE_LINKS], int *n) CN_CHECKED;
/* What a flip does to conditions that these kinds made, one behind the other; never
 * CN_MIRROR_INPUT. */
cn_mirror cn_annotate_mirror(const cn_annotate_args *links, int n);

/* --- session.c -------------------------------------------------------------------------------- */

/* An annotator for many pictures: opens and recognises the weight files, which must fit the kind.
 * backend runs the networks and must outlive the session; NULL for kinds that have none. */
cn_status cn_session_open(cn_ctx *ctx, const cn_annotate_args *args, cn_backend *backend,
                          cn_session **out) CN_CHECKED;
void cn_session_close(cn_session *s);
/* One picture to its condition; *out: cn_image_destroy it. Weights are read when the first one
 * comes. */
cn_status cn_session_annotate(cn_session *s, const cn_image *in, cn_image **out) CN_CHECKED;
/* What a picture of this size takes by the kind's networks: their weights and the largest plan, and
 * the operations. Nothing is read or computed. Networks that a kind runs only when it finds
 * something (hands, faces) don't count. */
typedef struct cn_session_cost {
    size_t bytes;
    double flops;
} cn_session_cost;
cn_status cn_session_rehearse(cn_session *s, int64_t width, int64_t height,
                              cn_session_cost *out) CN_CHECKED;
/* The resolution of the pictures that come. */
void cn_session_set_resolution(cn_session *s, int64_t resolution);
/* One picture through a session of its own, for kinds without networks. */
cn_status cn_annotate(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                      cn_image **out) CN_CHECKED;

/* For a kind's run(). */
cn_ctx *cn_session_ctx(const cn_session *s);
const cn_annotate_args *cn_session_args(const cn_session *s);
/* Brings *map to the size that the condition will have, by the kind's map_filter, if it hasn't got
 * it. */
cn_status cn_session_fit(cn_session *s, cn_image **map) CN_CHECKED;

#endif
