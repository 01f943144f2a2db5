/* SPDX-License-Identifier: Apache-2.0 */
/* option.h - what the library does with its tables of options beside cn_option_set and
 * cn_options_preset of controlnet.h. */
#ifndef CN_BASE_OPTION_H
#define CN_BASE_OPTION_H

#include "base/base.h"

/* Whether every field holds what its row allows. CN_EINVAL names the first that doesn't, and what
 * would be right. */
cn_status cn_options_check(cn_ctx *ctx, const cn_option *rows, const void *options) CN_CHECKED;

#endif
