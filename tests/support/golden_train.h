/* SPDX-License-Identifier: Apache-2.0 */
/* golden_train.h - losses, gradients and weights over the AdamW steps of a train_MODE.json. */
#ifndef TEST_GOLDEN_TRAIN_H
#define TEST_GOLDEN_TRAIN_H

#include "fixture.h"

cn_status golden_train(fixture *f, const char *mode) CN_CHECKED;

#endif
