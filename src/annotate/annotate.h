/* annotate.h - the kinds of condition there are, each with its options, behind one call.
 *
 * A kind is a row of the table in annotate.c: name, options with their ranges and defaults, and run().
 * The command line, the demo and the dataset tools read this table; none of them knows a kind by name.
 */
#ifndef CN_ANNOTATE_ANNOTATE_H
#define CN_ANNOTATE_ANNOTATE_H

#include "base/base.h"
#include "io/image.h"

enum { CN_ANNOTATE_MAX_OPTIONS = 8 };

typedef enum cn_option_type { CN_OPTION_NUMBER, CN_OPTION_INT, CN_OPTION_BOOL } cn_option_type;

typedef struct cn_annotator_option {
    const char *name, *help;
    cn_option_type type;
    double min, max, otherwise; /* a bool is 0 or 1 */
} cn_annotator_option;

typedef struct cn_annotator cn_annotator;

/* Filled by cn_annotate_defaults, then by cn_annotate_set. */
typedef struct cn_annotate_args {
    const cn_annotator *kind;
    double values[CN_ANNOTATE_MAX_OPTIONS]; /* in the order of kind->options */
    int64_t resolution;  /* the input goes through cn_image_resize_64 first; 0: as it is */
    const char *weights; /* the network's file, for kinds with uses_weights; borrowed */
} cn_annotate_args;

struct cn_annotator {
    const char *name, *title;
    const cn_annotator_option *options;
    int n_options;
    bool uses_weights;
    /* `in` has its resolution already. *out: cn_image_destroy it. */
    cn_status (*run)(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in, cn_image **out);
};

int cn_annotator_count(void);
/* NULL outside 0..count-1. */
const cn_annotator *cn_annotator_at(int i);
/* NULL when there is none of that name; '-' and '_' are the same. */
const cn_annotator *cn_annotator_find(const char *name);
/* The same, with an error that lists the names there are. */
cn_status cn_annotator_need(cn_ctx *ctx, const char *name, const cn_annotator **out) CN_CHECKED;

void cn_annotate_defaults(const cn_annotator *kind, cn_annotate_args *args);
/* CN_EINVAL for an unknown option, a value that isn't of its type, or one out of range. */
cn_status cn_annotate_set(cn_ctx *ctx, cn_annotate_args *args, const char *name,
                          const char *value) CN_CHECKED;
/* The same from "name=value"; a bare name switches a bool on. */
cn_status cn_annotate_parse(cn_ctx *ctx, cn_annotate_args *args, const char *text) CN_CHECKED;
/* Checks the weights against the kind, resizes to the resolution and runs. */
cn_status cn_annotate(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                      cn_image **out) CN_CHECKED;

#endif
