/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - what the environment asks for: CN_TRACE=1, CN_PROFILE=1,
 * CN_CHECK=1, CN_DUMP=pattern, and where its user keeps things. */
#ifndef CN_LOG_H
#define CN_LOG_H
#include "base/base.h"

typedef struct cn_debug {
    bool trace, profile;
    bool check;       /* every result of a plan is looked through for values that aren't finite */
    const char *dump; /* NULL: none */
} cn_debug;
cn_debug cn_debug_get(void);

/* The user's folder for what may be lost, by the XDG Base Directory specification: XDG_CACHE_HOME
 * or .cache in HOME, absolute paths alone. CN_EIO: there is none. */
cn_status cn_cache_dir(char out[CN_PATH_BYTES]) CN_CHECKED;
#endif
