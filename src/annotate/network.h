/* SPDX-License-Identifier: Apache-2.0 */
/* network.h - the networks of annotators: what each is, and how a session runs it.
 *
 * To add one in five lines: write `static void build(cn_graph *g, cn_node *x, cn_node **out)` with
 * the builders of graph.h, names as in the published file; batch norms, standardised weights and
 * the like become part of the convolutions by model/checkpoint/derived.h. Describe it in a
 * cn_network. Name it in the kind's row. In the kind's run(), turn the picture into
 * floats, call cn_session_run, and turn out[] into a picture. Everything else (files, recognition,
 * plans for each size, backends, lists, messages) follows.
 */
#ifndef CN_ANNOTATE_NETWORK_H
#define CN_ANNOTATE_NETWORK_H

#include "annotate/annotate.h"
#include "io/tensors.h"

enum { CN_NETWORK_OUTPUTS = 12, CN_NETWORK_SIGNS = 2 };

/* A tensor that tells one network's file from all others'. rows: its first dimension, 0 for any. */
typedef struct cn_network_sign {
    const char *tensor;
    int64_t rows;
} cn_network_sign;

struct cn_network {
    const char *name;       /* "M-LSD (tiny)", for messages and lists */
    const char *file, *url; /* the published file, and where its authors publish it */
    cn_network_sign signs[CN_NETWORK_SIGNS]; /* all that are given must be there */
    int64_t channels;                        /* of x */
    /* x [1,H,W,channels] -> out[0], out[1], ... (at most CN_NETWORK_OUTPUTS); in F32. */
    void (*build)(cn_graph *g, cn_node *x, cn_node **out);
};

/* Values of the outputs, in the order of build's, NHWC; valid until the session's next call. */
typedef struct cn_network_values {
    int n;
    const float *data[CN_NETWORK_OUTPUTS];
    int64_t shape[CN_NETWORK_OUTPUTS][CN_MAX_DIMS];
} cn_network_values;

/* Runs one of the session's networks. x: [H,W,channels]. */
cn_status cn_session_run(cn_session *s, const cn_network *net, int64_t H, int64_t W, const float *x,
                         cn_network_values *out) CN_CHECKED;
/* The network that was loaded for a role of the kind (0: the one it can't do without); NULL:
 * none. */
const cn_network *cn_session_network(const cn_session *s, int role);
/* The same, with an error that says which file is missing. */
cn_status cn_session_need(cn_session *s, int role, const cn_network **out) CN_CHECKED;
/* CN_ENOMEM, with advice, where work on a picture needs more memory than there is: else the system
 * would end the process for it. who: for the message. */
cn_status cn_session_check_memory(cn_session *s, const char *who, int64_t H, int64_t W,
                                  size_t bytes) CN_CHECKED;

/* Whether a file holds net; *prefix is what stands before its names: "" or "module.". */
bool cn_network_is_in(const cn_network *net, const cn_tensors *file, const char **prefix);
/* Any network that some kind has; NULL: none of them. */
const cn_network *cn_network_of(const cn_tensors *file);
/* Fills parameters that a graph of net declared. path: for messages. */
cn_status cn_network_load(cn_ctx *ctx, const cn_network *net, const cn_tensors *file,
                          const char *path, cn_backend *b, cn_params *p) CN_CHECKED;

#endif
