/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c - see settings.h. */
#include "io/settings.h"

#include <string.h>

enum { MAX_BYTES = 1 << 20 };

static cn_status compare(cn_ctx *ctx, const char *path, const char *settings)
{
    char *have = NULL;
    size_t n = 0;
    cn_status s = CN_OK;
    CN_TRY(cn_file_read(ctx, path, MAX_BYTES, &have, &n));
    if (n && have[n - 1] == '\n') have[n - 1] = 0;
    if (strcmp(have, settings) != 0)
        s = cn_fail(ctx, CN_EMISMATCH,
                    "%s: the folder holds \"%s\", not \"%s\"; another folder is expected", path,
                    have, settings);
    cn_free(have);
    return s;
}

cn_status cn_settings_keep(cn_ctx *ctx, const char *path, const char *settings)
{
    cn_str line = {0};
    if (cn_file_exists(path)) return compare(ctx, path, settings);
    cn_str_addf(&line, "%s\n", settings);
    const cn_status s = line.failed ? cn_fail(ctx, CN_ENOMEM, "no memory for %s", path)
                                    : cn_file_write(ctx, path, line.data, line.len);
    cn_str_free(&line);
    return s;
}
