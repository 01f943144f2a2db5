/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_layouts.h - every layout of training pairs, a row each: to add one, write its file, which
 * defines `const cn_dataset_layout cn_dataset_NAME`, and list it here. Nothing else lists them. */
#ifndef CN_DATA_DATASET_LAYOUTS_H
#define CN_DATA_DATASET_LAYOUTS_H

#include "data/dataset_internal.h"

/* In the order in which they are looked for. */
#define CN_DATASET_LAYOUT_LIST(X) \
    X(webdataset)                 \
    X(json)                       \
    X(fill50k)                    \
    X(imagefolder)                \
    X(csv)                        \
    X(folders)

#define CN_DATASET_DECLARE(name) extern const cn_dataset_layout cn_dataset_##name;
CN_DATASET_LAYOUT_LIST(CN_DATASET_DECLARE)
#undef CN_DATASET_DECLARE

#endif
