/* SPDX-License-Identifier: Apache-2.0 */
/* union_types.c - which types of conditions a ControlNet Union is given: by name, or by what the
 * preprocessor makes (model/nets/union.c has the table). */
#include "pipeline/pipeline_internal.h"

#include <string.h>

const char *cn_control_type(int i)
{
    return cn_union_type_name(i);
}

static cn_status refuse(cn_ctx *ctx, const char *path, const char *name, int known)
{
    cn_str list = {0};
    cn_union_types_list(known, &list);
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
    const int known = file->config.union_types;
    const int type = c->type ? cn_union_type(c->type, known) : cn_union_type_of_kind(kind, known);
    if (type < 0) return refuse(ctx, file->path, c->type, known);
    *out = type;
    return CN_OK;
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
