/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_names.c - files that lists and folders name: Windows' spelling of paths, and what lies
 * near one that isn't there. */
#include "data/dataset_internal.h"
#include "io/listing.h"

#include <dirent.h>
#include <string.h>
#include <strings.h>

cn_status cn_dataset_path(cn_ctx *ctx, const char *dir, const char *name, char out[CN_PATH_BYTES])
{
    if (name[0] == '/') return cn_format(ctx, out, CN_PATH_BYTES, "%s", name);
    return cn_format(ctx, out, CN_PATH_BYTES, "%s/%s", dir, name);
}

cn_status cn_dataset_locate(cn_ctx *ctx, const char *dir, const char *name, char out[CN_PATH_BYTES])
{
    char slashes[CN_PATH_BYTES], path[CN_PATH_BYTES];
    CN_TRY(cn_dataset_path(ctx, dir, name, out));
    if (!strchr(name, '\\') || cn_file_exists(out)) return CN_OK;
    CN_TRY(cn_format(ctx, slashes, sizeof slashes, "%s", name));
    for (char *p = slashes; *p; p++)
        if (*p == '\\') *p = '/';
    CN_TRY(cn_dataset_path(ctx, dir, slashes, path));
    return cn_file_exists(path) ? cn_format(ctx, out, CN_PATH_BYTES, "%s", path) : CN_OK;
}

cn_status cn_dataset_find_stem(cn_ctx *ctx, const char *dir, const char *stem, char *out,
                               size_t cap)
{
    const size_t n = strlen(stem);
    const struct dirent *e = NULL;
    cn_dir *list = NULL;
    out[0] = 0;
    CN_TRY(cn_dir_open(ctx, dir, &list));
    cn_status s = CN_OK;
    while (!out[0] && (s = cn_dir_next(list, &e)) == CN_OK && e)
        if (cn_stem_length(e->d_name) == n && !strncasecmp(e->d_name, stem, n))
            snprintf(out, cap, "%s", e->d_name);
    cn_dir_close(list);
    return s;
}

cn_status cn_dataset_describe_missing(cn_ctx *ctx, const char *path, char *out, size_t cap)
{
    char folder[CN_PATH_BYTES], stem[512], near[512] = "";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    out[0] = 0;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    snprintf(stem, sizeof stem, "%.*s", (int)CN_MIN(cn_stem_length(name), 500), name);
    if (cn_dir_exists(path))
        snprintf(out, cap, "; it is a folder");
    else if (folder[0] && !cn_dir_exists(folder))
        snprintf(out, cap, "; there is no such folder");
    if (out[0]) return CN_OK;
    CN_TRY(cn_dataset_find_stem(ctx, folder[0] ? folder : "/", stem, near, sizeof near));
    if (near[0]) snprintf(out, cap, "; there is a file %s", near);
    return CN_OK;
}

/* --- what isn't read as it lies ----------------------------------------------------------------
 */

/* Files of one ending in a folder; 0 where there is none. */
static cn_status count_files(cn_ctx *ctx, const char *dir, const char *ending, int *n)
{
    const char *const endings[] = {ending, NULL};
    const struct dirent *e = NULL;
    cn_dir *list = NULL;
    *n = 0;
    if (!cn_dir_exists(dir)) return CN_OK;
    CN_TRY(cn_dir_open(ctx, dir, &list));
    cn_status s = CN_OK;
    while ((s = cn_dir_next(list, &e)) == CN_OK && e)
        *n += e->d_name[0] != '.' && cn_has_ending(e->d_name, endings);
    cn_dir_close(list);
    return s;
}

cn_status cn_dataset_fail_packed(cn_ctx *ctx, const char *dir)
{
    static const struct {
        const char *ending, *what, *advice;
    } kinds[] = {
        {".parquet", "Parquet, Hugging Face's usual form of a data set",
         "tools/from-parquet.py makes a folder of it"},
        {".arrow", "Arrow, what Hugging Face's datasets saves",
         "saved as Parquet (to_parquet), tools/from-parquet.py makes a folder of it"},
        {".zip", "zip files", "unpack them into a folder first"},
        {".7z", "7-Zip archives", "unpack them into a folder first"},
        {".rar", "RAR archives", "unpack them into a folder first"},
    };
    static const char *const below[] = {"", "/data", "/train"};
    char path[CN_PATH_BYTES];
    for (size_t k = 0; k < CN_COUNT(kinds); k++) {
        const char *const endings[] = {kinds[k].ending, NULL};
        int n = cn_has_ending(dir, endings) && cn_file_exists(dir);
        for (size_t i = 0; !n && i < CN_COUNT(below); i++) {
            snprintf(path, sizeof path, "%.4000s%s", dir, below[i]);
            CN_TRY(count_files(ctx, path, kinds[k].ending, &n));
        }
        if (!n) continue;
        return cn_fail(ctx, CN_EFORMAT, "%s: %s (%d file%s), which isn't read as it lies; %s", dir,
                       kinds[k].what, n, n == 1 ? "" : "s", kinds[k].advice);
    }
    return CN_OK;
}
