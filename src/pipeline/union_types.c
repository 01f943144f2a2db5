/* SPDX-License-Identifier: Apache-2.0 */
/* union_types.c - which types of conditions a ControlNet Union is given.
 *
 * Six in xinsir's first network, eight in ProMax (tile and repaint behind them). An annotator's
 * kind that begins with one of the names makes conditions of this type.
 */
#include "pipeline/pipeline_internal.h"

#include <string.h>

static const struct {
    const char *name;
    int type;
} types[] = {
    {"openpose", 0}, {"depth", 1}, {"softedge", 2}, {"hed", 2},     {"pidinet", 2},
    {"scribble", 2}, {"ted", 2},   {"canny", 3},    {"lineart", 3}, {"mlsd", 3},
    {"normal", 4},   {"seg", 5},   {"tile", 6},     {"repaint", 7}, {"inpaint", 7},
};

const char *cn_control_type(int i)
{
    return i >= 0 && i < (int)CN_COUNT(types) ? types[i].name : NULL;
}

static cn_status refuse(cn_ctx *ctx, const char *path, const char *name, int known)
{
    cn_str list = {0};
    for (size_t i = 0; i < CN_COUNT(types); i++)
        if (types[i].type < known) cn_str_addf(&list, "%s%s", i ? ", " : "", types[i].name);
    const cn_status s =
        name ? cn_fail(ctx, CN_EINVAL, "%s: --control-type %s: this ControlNet Union knows %s",
                       path, name, list.data ? list.data : "")
             : cn_fail(ctx, CN_EINVAL,
                       "%s: a ControlNet Union wants to know what the image shows: --control-type "
                       "with one of %s",
                       path, list.data ? list.data : "");
    cn_str_free(&list);
    return s;
}

/* The type of one condition, by its name or by what its preprocessor makes. */
static cn_status find_type(cn_ctx *ctx, const cn_control_file *file, const cn_control_options *c,
                           const char *kind, int *out)
{
    for (size_t i = 0; i < CN_COUNT(types); i++) {
        const bool is = c->type ? !strcmp(types[i].name, c->type)
                                : !strncmp(kind, types[i].name, strlen(types[i].name));
        if (!is || types[i].type >= file->config.union_types) continue;
        *out = types[i].type;
        return CN_OK;
    }
    return refuse(ctx, file->path, c->type, file->config.union_types);
}

static cn_status check_more(cn_ctx *ctx, const cn_control_file *file, const cn_control_options *c)
{
    for (int i = 0; i < c->n_more; i++) {
        const cn_control_options *m = &c->more[i];
        cn_status s = cn_options_check(ctx, cn_control_option_rows, m);
        if (s == CN_OK && !m->image)
            s = cn_fail(ctx, CN_EINVAL, "condition %d has no image", i + 2);
        if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", file->path);
    }
    return CN_OK;
}

cn_status cn_job_choose_types(cn_job *j, int k)
{
    const cn_control_file *file = j->p->controls[k];
    const cn_control_options *c = &j->o->controls[k];
    cn_condition_spec *s = &j->conditions[k];
    *s = (cn_condition_spec){.n = 1};
    if (!file->config.union_types) {
        if (!c->type && !c->n_more) return CN_OK;
        return cn_fail(j->p->ctx, CN_EINVAL,
                       "%s: is no ControlNet Union, so it takes one condition without a type",
                       file->path);
    }
    if (c->n_more < 0 || c->n_more >= CN_MAX_CONDITIONS)
        return cn_fail(j->p->ctx, CN_EINVAL, "%s: %d conditions; at most %d are possible",
                       file->path, c->n_more + 1, (int)CN_MAX_CONDITIONS);
    CN_TRY(check_more(j->p->ctx, file, c));
    s->n = 1 + c->n_more;
    s->among_conditions = c->union_attention && !strcmp(c->union_attention, "conditions-only");
    for (int i = 0; i < s->n; i++) {
        const cn_control_options *one = i ? &c->more[i - 1] : c;
        const char *kind = i ? one->preprocessor : j->kinds[k];
        CN_TRY(find_type(j->p->ctx, file, one, kind ? kind : "none", &s->types[i]));
        s->scales[i] = (float)one->strength;
    }
    return CN_OK;
}
