/* SPDX-License-Identifier: Apache-2.0 */
/* graph_internal.h - what graph.c, where builders declare parameters, asks of params.c. */
#ifndef CN_GRAPH_INTERNAL_H
#define CN_GRAPH_INTERNAL_H

#include "graph/graph.h"

/* A new entry of p, shape and all else zero; NULL when memory is out. */
cn_param *cn_params_declare(cn_params *p, const char *ldm_name, const char *diffusers_name);

/* Copies of y's two names; false when memory is out. */
bool cn_node_rename(cn_ctx *ctx, cn_node *y, const char *ldm, const char *diffusers);

/* Whether the file that the values come from has diffusers' names. */
bool cn_params_diffusers_names(const cn_params *p);

/* Sets how q is stored, which follows from what it is; nothing once it holds values. */
void cn_param_choose_dtype(const cn_params *p, cn_param *q);

#endif
