/* SPDX-License-Identifier: Apache-2.0 */
/* control_set.c - which ControlNets a pipeline draws with, and what stays at hand from drawing to
 * drawing beside the networks: ControlNets that were in use, and preprocessors.
 *
 * Kept are a few of each, the longest unused go first; without keep_loaded, and under a limit of
 * memory, nothing is.
 */
#include "pipeline/pipeline_internal.h"

#include <string.h>

static bool keeps(const cn_pipeline *p)
{
    return p->asked.keep && !p->max_memory_bytes;
}

/* --- ControlNets ------------------------------------------------------------------------------ */

static void close_one(cn_kept_control *c)
{
    cn_control_close(c->file);
    cn_params_unload(&c->params);
    cn_free(c->path);
    *c = (cn_kept_control){0};
}

static cn_status open_one(cn_pipeline *p, const char *path, cn_control_file **out)
{
    const int64_t factor = cn_vae_factor(&p->base->vae);
    CN_TRY(cn_control_open_any(p->ctx, path, out));
    const cn_controlnet_config *c = &(*out)->config;
    cn_status s = cn_control_join(p->ctx, *out, p->base);
    if (s == CN_OK && (*out)->kind->attend) s = cn_pipeline_check_ip(p, *out);
    if (s != CN_OK) return cn_fail_prefix(p->ctx, s, "%s", path);
    if (!(*out)->kind->residuals || (int64_t)1 << (c->hint_levels - 1) == factor) return CN_OK;
    return cn_fail(p->ctx, CN_EMISMATCH,
                   "%s: its hint network shrinks the condition %lld times, the VAE's latents need "
                   "%lld times",
                   path, (long long)1 << (c->hint_levels - 1), (long long)factor);
}

static bool is_set(const cn_pipeline *p, const char *const *paths, int n)
{
    bool same = p->n_controls == n;
    for (int k = 0; same && k < n; k++) same = !strcmp(p->control_paths[k], paths[k]);
    return same;
}

/* Those in use, then those kept, the last used first: the room for both. */
static int gather(cn_pipeline *p, cn_kept_control pool[2 * CN_MAX_CONTROLS])
{
    int n = 0;
    for (int k = 0; k < p->n_controls; k++) {
        pool[n++] = (cn_kept_control){p->controls[k], p->control[k], p->control_paths[k]};
        p->controls[k] = NULL;
        p->control[k] = NULL;
        p->control_paths[k] = NULL;
    }
    for (int k = 0; k < CN_MAX_CONTROLS; k++)
        if (p->kept_controls[k].file) pool[n++] = p->kept_controls[k];
    memset(p->kept_controls, 0, sizeof p->kept_controls);
    p->n_controls = 0;
    return n;
}

static void put_away(cn_pipeline *p, cn_kept_control *pool, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (!pool[i].file) continue;
        if (keeps(p) && kept < CN_MAX_CONTROLS)
            p->kept_controls[kept++] = pool[i];
        else
            close_one(&pool[i]);
    }
}

static cn_status take_or_open(cn_pipeline *p, const char *path, cn_kept_control *pool, int n, int k)
{
    cn_control_file *file = NULL;
    char *name = NULL;
    for (int i = 0; i < n && !file; i++) {
        if (!pool[i].file || strcmp(pool[i].path, path) != 0) continue;
        file = pool[i].file;
        name = pool[i].path;
        p->control[k] = pool[i].params;
        pool[i] = (cn_kept_control){0};
    }
    cn_status s = file ? CN_OK : open_one(p, path, &file);
    if (s == CN_OK && !name && !(name = cn_strdup(p->ctx, path))) s = CN_ENOMEM;
    if (s != CN_OK) {
        cn_control_close(file);
        return s;
    }
    p->controls[k] = file;
    p->control_paths[k] = name;
    p->n_controls = k + 1;
    return CN_OK;
}

cn_status cn_pipeline_set_controls(cn_pipeline *p, const char *const *controls, int n)
{
    cn_kept_control pool[2 * CN_MAX_CONTROLS];
    cn_status s = CN_OK;
    if (n < 0 || n > CN_MAX_CONTROLS)
        return cn_fail(p->ctx, CN_EINVAL, "%d ControlNets at once: at most %d are possible", n,
                       CN_MAX_CONTROLS);
    if (is_set(p, controls, n)) return CN_OK;
    cn_draw_destroy(p->draw); /* its plans are of the networks that there were */
    p->draw = NULL;
    const int pooled = gather(p, pool);
    for (int k = 0; s == CN_OK && k < n; k++) s = take_or_open(p, controls[k], pool, pooled, k);
    put_away(p, pool, pooled);
    if (s == CN_OK) return CN_OK;
    const int opened = gather(p, pool);
    put_away(p, pool, opened);
    return s;
}

void cn_pipeline_unload_kept(cn_pipeline *p)
{
    for (int k = 0; k < CN_MAX_CONTROLS; k++) cn_params_unload(&p->kept_controls[k].params);
}

/* --- preprocessors ---------------------------------------------------------------------------- */

static void close_annotator(cn_kept_annotator *a)
{
    cn_annotator_destroy(a->annotator);
    cn_free(a->kind);
    cn_free(a->weights);
    *a = (cn_kept_annotator){0};
}

static bool same_text(const char *a, const char *b)
{
    return !a || !b ? a == b : !strcmp(a, b);
}

static cn_status open_annotator(cn_pipeline *p, const char *kind, const char *const *weights,
                                cn_kept_annotator *out)
{
    const cn_annotate_options o = {.weights = weights};
    const char *path = weights ? weights[0] : NULL;
    cn_kept_annotator a = {0};
    cn_status s = cn_annotator_create(p->ctx, kind, &o, &a.annotator);
    if (s == CN_OK && !(a.kind = cn_strdup(p->ctx, kind))) s = CN_ENOMEM;
    if (s == CN_OK && path && !(a.weights = cn_strdup(p->ctx, path))) s = CN_ENOMEM;
    if (s == CN_OK)
        *out = a;
    else
        close_annotator(&a);
    return s;
}

cn_status cn_pipeline_annotate(cn_pipeline *p, const char *kind, const char *const *weights,
                               const cn_image *in, cn_image **out)
{
    const cn_annotate_options o = {.weights = weights};
    cn_kept_annotator *list = p->annotators, found = {0};
    const char *path = weights ? weights[0] : NULL;
    int i = 0;
    /* several files are no key */
    if (!keeps(p) || (path && weights[1])) return cn_annotate_image(p->ctx, kind, &o, in, out);
    while (i < CN_KEPT_ANNOTATORS && list[i].annotator &&
           !(!strcmp(list[i].kind, kind) && same_text(list[i].weights, path)))
        i++;
    if (i < CN_KEPT_ANNOTATORS && list[i].annotator)
        found = list[i];
    else
        CN_TRY(open_annotator(p, kind, weights, &found));
    if (i == CN_KEPT_ANNOTATORS) close_annotator(&list[--i]);
    memmove(list + 1, list, (size_t)i * sizeof *list);
    list[0] = found;
    return cn_annotator_run(found.annotator, in, out);
}

void cn_pipeline_drop_annotators(cn_pipeline *p)
{
    for (int i = 0; i < CN_KEPT_ANNOTATORS; i++) close_annotator(&p->annotators[i]);
}

void cn_pipeline_close_controls(cn_pipeline *p)
{
    for (int k = 0; k < p->n_controls; k++) {
        cn_control_close(p->controls[k]);
        cn_free(p->control_paths[k]);
    }
    for (int k = 0; k < CN_MAX_CONTROLS; k++) close_one(&p->kept_controls[k]);
}
