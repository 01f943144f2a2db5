/* SPDX-License-Identifier: Apache-2.0 */
/* api_annotate.c - controlnet.h's calls on conditions: a session with the backend that its networks
 * need. */
#include "annotate/labels.h"
#include "annotate/network.h"
#include "device/device.h"
#include "pipeline/conditions_internal.h"

#include <string.h>

struct cn_annotator {
    cn_backend *backend; /* NULL for kinds without networks */
    cn_session *session;
};

void cn_annotator_destroy(cn_annotator *a)
{
    if (!a) return;
    cn_session_close(a->session);
    if (a->backend) a->backend->destroy(a->backend);
    cn_free(a);
}

cn_status cn_annotator_create(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                              cn_annotator **out)
{
    cn_annotate_args args;
    const char *device = options ? options->device : NULL;
    CN_TRY(cn_annotate_read(ctx, kind, &args));
    if (options) {
        args.resolution = options->resolution;
        if (options->detect_resolution)
            args.detect_resolution = CN_MAX(options->detect_resolution, 0);
        args.weights = options->weights;
        for (const char *const *s = options->settings; s && *s; s++)
            CN_TRY(cn_annotate_parse(ctx, &args, *s));
    }
    cn_annotator *a = cn_alloc0(ctx, sizeof *a);
    cn_status s = a ? CN_OK : CN_ENOMEM;
    if (s == CN_OK)
        s = args.kind->networks[0].net ? cn_backend_create(ctx, device, &a->backend)
                                       : cn_condition_refuse_device(ctx, args.kind, device);
    if (s == CN_OK) s = cn_session_open(ctx, &args, a->backend, &a->session);
    if (s != CN_OK) {
        cn_annotator_destroy(a);
        return s;
    }
    *out = a;
    return CN_OK;
}

cn_status cn_annotator_run(cn_annotator *a, const cn_image *in, cn_image **out)
{
    return cn_session_annotate(a->session, in, out);
}

cn_status cn_annotator_run_file(cn_annotator *a, const char *in, const char *out)
{
    cn_ctx *ctx = cn_session_ctx(a->session);
    cn_image *image = NULL, *condition = NULL;
    CN_TRY(cn_image_load(ctx, in, &image));
    cn_status s = cn_annotator_run(a, image, &condition);
    cn_image_destroy(image);
    if (s == CN_OK) s = cn_image_save_png(ctx, out, condition, NULL);
    cn_image_destroy(condition);
    return s;
}

cn_status cn_annotate_image(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                            const cn_image *in, cn_image **out)
{
    cn_annotator *a = NULL;
    CN_TRY(cn_annotator_create(ctx, kind, options, &a));
    cn_status s = cn_annotator_run(a, in, out);
    cn_annotator_destroy(a);
    return s;
}

cn_status cn_annotate_file(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                           const char *in, const char *out)
{
    cn_annotator *a = NULL;
    CN_TRY(cn_annotator_create(ctx, kind, options, &a));
    cn_status s = cn_annotator_run_file(a, in, out);
    cn_annotator_destroy(a);
    return s;
}

/* --- lists ------------------------------------------------------------------------------------ */

const char *cn_annotate_kind(int i, const char **title)
{
    const cn_kind *a = cn_kind_at(i);
    if (!a) return NULL;
    if (title) *title = a->title;
    return a->name;
}

const char *cn_annotate_find(const char *name)
{
    const cn_kind *a = cn_kind_find(name);
    return a ? a->name : NULL;
}

const char *cn_annotate_alias(int i, const char **stands_for)
{
    const char *name = NULL, *text = NULL;
    if (!cn_kind_alias_at(i, &name, &text)) return NULL;
    if (stands_for) *stands_for = text;
    return name;
}

const char *cn_annotate_takes(const char *kind)
{
    const cn_kind *a = cn_kind_find(kind);
    return a ? cn_takes_name(a->takes) : NULL;
}

const char *cn_palette_name(int i)
{
    const cn_palette *p = cn_palette_at(i);
    return p ? p->name : NULL;
}

bool cn_palette_entry_at(const char *palette, int i, cn_palette_entry *out)
{
    const cn_palette *p = cn_palette_find(palette);
    if (!p || i < 0 || i >= p->n) return false;
    *out = (cn_palette_entry){.id = cn_palette_id(p, i), .name = p->names[i]};
    memcpy(out->rgb, p->rgb[i], 3);
    return true;
}

bool cn_annotate_setting_at(const char *kind, int i, cn_annotate_setting *out)
{
    const cn_kind *a = cn_kind_find(kind);
    if (!a || i < 0 || i >= a->n_options) return false;
    const cn_kind_option *o = &a->options[i];
    *out = (cn_annotate_setting){.name = o->name,
                                 .help = o->help,
                                 .is_switch = o->type == CN_OPTION_BOOL,
                                 .whole = o->type == CN_OPTION_INT,
                                 .min = o->min,
                                 .max = o->max,
                                 .otherwise = o->otherwise};
    return true;
}

bool cn_annotate_network_at(const char *kind, int i, cn_annotate_network *out)
{
    const cn_kind *a = cn_kind_find(kind);
    if (!a || i < 0 || i >= CN_KIND_NETWORKS || !a->networks[i].net) return false;
    const cn_network *n = a->networks[i].net;
    *out = (cn_annotate_network){n->name, n->file, n->url, a->networks[i].role};
    return true;
}
