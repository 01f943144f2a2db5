/* SPDX-License-Identifier: Apache-2.0 */
/* pairs.c - writes folders of drawn pairs.
 *
 * Every PNG is written atomically, so a file that exists is whole; what a folder was made with is
 * kept in scenes.txt, and a run with other settings is refused before it mixes two data sets.
 */
#include "scene/pairs.h"

#include "base/lock.h"
#include "io/settings.h"
#include "scene/scene.h"

#include <string.h>

static cn_status check_pairs(cn_ctx *ctx, const cn_pairs *p)
{
    if (!p->dir || !*p->dir) return cn_fail(ctx, CN_EINVAL, "%s: no folder given", p->what);
    if (p->n < 1 || p->first_index < 0 || p->n > INT64_MAX - p->first_index)
        return cn_fail(ctx, CN_EINVAL,
                       "%s: %lld pictures from index %lld, expected at least 1 from 0 on", p->what,
                       (long long)p->n, (long long)p->first_index);
    if (p->size_px < CN_SCENE_MIN_PX || p->size_px > CN_SCENE_MAX_PX)
        return cn_fail(ctx, CN_EINVAL, "%s: size %lld px, expected %d to %d", p->what,
                       (long long)p->size_px, CN_SCENE_MIN_PX, CN_SCENE_MAX_PX);
    return CN_OK;
}

/* Makes the folders; scenes.txt is written, or must say the same. */
static cn_status open_folder(cn_ctx *ctx, const cn_pairs *p)
{
    char path[CN_PATH_BYTES], want[CN_PATH_BYTES];
    for (int i = 0; i < 2; i++) {
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", p->dir, i ? "target" : "source"));
        CN_TRY(cn_dir_make(ctx, path));
    }
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/scenes.txt", p->dir));
    CN_TRY(cn_format(ctx, want, sizeof want, "%s %d, seed %llu, %lld px, condition %s", p->what,
                     p->version, (unsigned long long)p->seed, (long long)p->size_px, p->condition));
    return cn_settings_keep(ctx, path, want);
}

static cn_status write_pictures(cn_ctx *ctx, const cn_pairs *p, int64_t index, const char *source,
                                const char *target)
{
    cn_image *picture = NULL, *condition = NULL;
    cn_status s = cn_image_create(ctx, p->size_px, p->size_px, &picture);
    if (s == CN_OK) s = cn_image_create(ctx, p->size_px, p->size_px, &condition);
    if (s == CN_OK) s = p->draw(p->user, ctx, index, picture, condition);
    if (s == CN_OK) s = cn_image_save_png(ctx, source, condition, NULL);
    if (s == CN_OK) s = cn_image_save_png(ctx, target, picture, NULL);
    cn_image_destroy(picture);
    cn_image_destroy(condition);
    return s;
}

static cn_status write_one(cn_ctx *ctx, const cn_pairs *p, int64_t index)
{
    char source[CN_PATH_BYTES], target[CN_PATH_BYTES];
    if (cn_cancelled(ctx))
        return cn_fail(ctx, CN_ECANCELLED, "%s: stopped, the same call goes on", p->what);
    CN_TRY(cn_format(ctx, source, sizeof source, "%s/source/%lld.png", p->dir, (long long)index));
    CN_TRY(cn_format(ctx, target, sizeof target, "%s/target/%lld.png", p->dir, (long long)index));
    if (cn_file_exists(source) && cn_file_exists(target)) return CN_OK;
    return write_pictures(ctx, p, index, source, target);
}

static cn_status write_prompts(cn_ctx *ctx, const cn_pairs *p)
{
    cn_file_writer w;
    char path[CN_PATH_BYTES], caption[CN_CAPTION_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/prompt.json", p->dir));
    CN_TRY(cn_writer_open(ctx, path, &w));
    for (int64_t i = p->first_index; i < p->first_index + p->n; i++) {
        p->caption(p->user, i, caption, sizeof caption);
        const int r = fprintf(w.f,
                              "{\"source\": \"source/%lld.png\", \"target\": \"target/%lld.png\", "
                              "\"prompt\": \"%s\"}\n",
                              (long long)i, (long long)i, caption);
        if (r < 0) {
            cn_writer_abort(&w);
            return cn_fail(ctx, CN_EIO, "%s: writing failed, is the disk full?", path);
        }
    }
    return cn_writer_commit(ctx, &w);
}

static cn_status write_all(cn_ctx *ctx, const cn_pairs *p)
{
    CN_TRY(open_folder(ctx, p));
    cn_status first = CN_OK;
    int64_t done = 0;
#pragma omp parallel for schedule(dynamic, 4) num_threads(p->alone ? 1 : cn_threads(ctx))
    for (int64_t i = 0; i < p->n; i++) {
        cn_status s;
#pragma omp atomic read
        s = first;
        if (s != CN_OK) continue;
        s = write_one(ctx, p, p->first_index + i);
#pragma omp critical(cn_pairs_progress)
        {
            done++;
            if (s == CN_OK && p->progress) p->progress(p->progress_user, done, p->n);
            if (s != CN_OK && first == CN_OK) {
#pragma omp atomic write
                first = s;
            }
        }
    }
    return first != CN_OK ? first : write_prompts(ctx, p);
}

cn_status cn_pairs_write(cn_ctx *ctx, const cn_pairs *p)
{
    cn_dir_lock *lock = NULL;
    CN_TRY(check_pairs(ctx, p));
    CN_TRY(cn_dir_lock_take(ctx, p->dir, &lock));
    const cn_status s = write_all(ctx, p);
    cn_dir_lock_drop(lock);
    return s;
}
