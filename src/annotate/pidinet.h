/* SPDX-License-Identifier: Apache-2.0 */
/* pidinet.h - soft edges by PiDiNet.
 *
 * Su, Liu, Yu, Hu, Liao, Tian, Pietikaeinen and Liu: "Pixel Difference Networks for Efficient Edge
 * Detection" (2021).
 */
#ifndef CN_ANNOTATE_PIDINET_H
#define CN_ANNOTATE_PIDINET_H

#include "annotate/maps.h"

/* x: BGR 0..1. out[0]: [1,H,W,1] edge strength 0..1; scopes side1..side4 are the four sides'
 * own. */
extern const cn_network cn_pidinet_table5;
extern const cn_feed cn_pidinet_feed;

/* By the session's network, white on black. safe: three levels only. filter: what is 0.5 or weaker
 * is black. */
cn_status cn_pidinet(cn_session *s, const cn_image *in, bool safe, bool filter,
                     cn_image **out) CN_CHECKED;

#endif
