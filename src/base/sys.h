/* SPDX-License-Identifier: Apache-2.0 */
/* sys.h - calls to the operating system and their failures. */
#ifndef CN_BASE_SYS_H
#define CN_BASE_SYS_H

#include "base/base.h"

/* CN_EIO: "cannot WHAT "PATH": the system's reason for `error`". */
cn_status cn_fail_io(cn_ctx *ctx, const char *what, const char *path, int error);

#endif
