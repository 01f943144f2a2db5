/* SPDX-License-Identifier: Apache-2.0 */
/* kinds.h - every kind of condition, a row each: to add one, write its file, which defines
 * `const cn_kind cn_kind_NAME`, and list it here. Nothing else lists kinds. */
#ifndef CN_ANNOTATE_KINDS_H
#define CN_ANNOTATE_KINDS_H

#include "annotate/annotate.h"

/* In the order in which they are shown. */
#define CN_KIND_LIST(X)   \
    X(none)               \
    X(canny)              \
    X(mlsd)               \
    X(hed)                \
    X(pidinet)            \
    X(lineart)            \
    X(lineart_coarse)     \
    X(lineart_anime)      \
    X(lineart_standard)   \
    X(openpose)           \
    X(depth)              \
    X(normal)             \
    X(seg)                \
    X(scribble)           \
    X(strokes)            \
    X(scribble_hed)       \
    X(scribble_pidinet)   \
    X(threshold)          \
    X(scribble_xdog)      \
    X(scribble_synthesis) \
    X(seg_ade)            \
    X(seg_coco)           \
    X(normal_diode)       \
    X(depth_diode)        \
    X(normal_from_depth)  \
    X(invert)

#define CN_KIND_DECLARE(name) extern const cn_kind cn_kind_##name;
CN_KIND_LIST(CN_KIND_DECLARE)
#undef CN_KIND_DECLARE

#endif
