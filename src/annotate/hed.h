/* SPDX-License-Identifier: Apache-2.0 */
/* hed.h - soft edges by HED, the paper's "HED boundaries".
 *
 * Xie and Tu: "Holistically-Nested Edge Detection" (2015). Two published networks do the same:
 * ControlNet's own (Apache 2 licence, v1.0's final and v1.1's) and the one of its first release.
 */
#ifndef CN_ANNOTATE_HED_H
#define CN_ANNOTATE_HED_H

#include "annotate/maps.h"

/* Apache 2: x RGB 0..255, out[0] [1,H,W,1] the mean of the five sides' logits; scopes
 * block1..block5 are the sides. bsds500: x BGR 0..255 less each channel's mean, out[0] [1,H,W,1]
 * edge strength 0..1. */
extern const cn_network cn_hed_apache2, cn_hed_bsds500;
/* What each takes. */
extern const cn_feed cn_hed_apache2_feed, cn_hed_bsds500_feed;

/* By the session's network, white on black. safe: three levels only. */
cn_status cn_hed(cn_session *s, const cn_image *in, bool safe, cn_image **out) CN_CHECKED;

#endif
