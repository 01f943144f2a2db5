/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - the only place of the library that reads the environment. */
#include "base/log.h"

#include <stdlib.h>

static bool is_on(const char *name)
{
    const char *v = getenv(name);
    return v && *v && !(v[0] == '0' && !v[1]);
}

cn_debug cn_debug_get(void)
{
    const char *dump = getenv("CN_DUMP");
    return (cn_debug){.trace = is_on("CN_TRACE"),
                      .profile = is_on("CN_PROFILE"),
                      .check = is_on("CN_CHECK"),
                      .dump = dump && *dump ? dump : NULL};
}

static const char *absolute(const char *name)
{
    const char *v = getenv(name);
    return v && v[0] == '/' ? v : NULL;
}

cn_status cn_cache_dir(char out[CN_PATH_BYTES])
{
    const char *cache = absolute("XDG_CACHE_HOME"), *home = absolute("HOME");
    if (cache) return cn_format(NULL, out, CN_PATH_BYTES, "%s", cache);
    return home ? cn_format(NULL, out, CN_PATH_BYTES, "%s/.cache", home) : CN_EIO;
}
