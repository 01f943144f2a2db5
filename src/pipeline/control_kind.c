/* SPDX-License-Identifier: Apache-2.0 */
/* control_kind.c - which kind of condition a ControlNet takes, where the options leave it to the
 * name it was published under.
 *
 * Names: lllyasviel's ControlNet 1.0 and 1.1 (control_v11p_sd15_canny), diffusers'
 * (sd-controlnet-canny), thibaud's for SD 2.1 (control_v11p_sd21_ade20k). Where several annotators
 * would do, the one that the webui extension takes by itself is chosen.
 */
#include "pipeline/pipeline_internal.h"

#include <string.h>

/* The first whose words stand in the name counts. */
static const struct {
    const char *words;
    const char *kind; /* of annotator, CN_INPAINT_CONDITION or "none"; NULL: it isn't here */
    const char *note; /* "none": what the image is to be; NULL: what the annotator is called */
} kinds[] = {
    {"lineart_anime", "lineart_anime", ""},
    {"lineart", "lineart", ""},
    {"canny", "canny", ""},
    {"mlsd", "mlsd", ""},
    {"normalbae", NULL, "NormalBae"},
    {"normal", "normal", ""},
    {"depth", "depth", ""},
    {"seg", "seg", ""},
    {"ade20k", "seg", ""},
    {"inpaint", CN_INPAINT_CONDITION, ""},
    {"openpose", "openpose", ""},
    {"openposev2", "openpose", ""},
    {"scribble", "scribble_pidinet", ""},
    {"softedge", "pidinet", ""},
    {"hed", "hed", ""},
    {"shuffle", "none", "the picture whose colours and style are wanted"},
    {"ip2p", "none", "the picture that is to be changed"},
    {"tile", "none", "the picture that is to be redrawn in detail"},
};

static cn_status choose_by_name(const cn_job *j, int k, const char **kind)
{
    const cn_control_file *c = j->p->controls[k];
    size_t i = 0;
    while (i < CN_COUNT(kinds) && !cn_control_named(c, kinds[i].words)) i++;
    if (i == CN_COUNT(kinds))
        return cn_fail(j->p->ctx, CN_EINVAL,
                       "%s: its name says no kind of condition (canny, depth, ...); name one with "
                       "--control-preprocessor",
                       c->path);
    if (!kinds[i].kind)
        return cn_fail(j->p->ctx, CN_EINVAL,
                       "%s: by its name it takes %s's conditions, and this annotator isn't here; "
                       "give such a condition with --control-preprocessor none",
                       c->path, kinds[i].note);
    *kind = kinds[i].kind;
    if (kinds[i].note[0])
        cn_log(j->p->ctx, CN_LOG_INFO, "%s: by its name, the image is taken as it is: %s", c->path,
               kinds[i].note);
    else
        cn_log(j->p->ctx, CN_LOG_INFO, "%s: by its name, the preprocessor is %s", c->path, *kind);
    return CN_OK;
}

cn_status cn_job_choose_kinds(cn_job *j)
{
    for (int k = 0; k < j->p->n_controls; k++) {
        const cn_control_options *c = &j->o->controls[k];
        const char *kind = c->preprocessor ? c->preprocessor : "none";
        if (!strcmp(kind, "auto") && cn_pipeline_takes_prompt(j->p, k)) kind = "none";
        if (!strcmp(kind, "auto")) CN_TRY(choose_by_name(j, k, &kind));
        j->kinds[k] = kind;
        if (cn_pipeline_takes_prompt(j->p, k)) {
            CN_TRY(cn_job_count_images(j, k));
            continue;
        }
        CN_TRY(cn_job_choose_types(j, k));
        const bool inpaints = !strcmp(kind, CN_INPAINT_CONDITION);
        if (inpaints && !(j->o->mask && j->o->init_image))
            return cn_fail(j->p->ctx, CN_EINVAL,
                           "%s: its condition is the picture with -1 where the mask is: an initial "
                           "image and a mask are needed",
                           j->p->controls[k]->path);
        if (!inpaints && j->o->mask && cn_control_named(j->p->controls[k], "inpaint"))
            cn_log(j->p->ctx, CN_LOG_WARN,
                   "%s: by its name, it wants -1 in the condition where the mask is; "
                   "--control-preprocessor inpaint makes that",
                   j->p->controls[k]->path);
    }
    return CN_OK;
}
