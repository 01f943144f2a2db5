/* SPDX-License-Identifier: Apache-2.0 */
/* family.c - how a family is found; see family.h. */
#include "model/checkpoint/family.h"

#include "model/checkpoint/averages.h"

#define CN_FAMILY_ROW(name) &cn_family_##name,
static const cn_family *const families[] = {CN_FAMILY_LIST(CN_FAMILY_ROW)};
#undef CN_FAMILY_ROW

const cn_family *cn_family_at(int i)
{
    return i < (int)CN_COUNT(families) ? families[i] : NULL;
}

const cn_family *cn_family_of(const cn_base *b)
{
    size_t i = 0;
    while (i + 1 < CN_COUNT(families) && !families[i]->fits(b)) i++;
    return families[i];
}

static bool holds_all(const cn_tensors *t, const cn_family *f, cn_net without)
{
    for (int i = 0; i < f->n_nets; i++)
        if (f->nets[i].net != without && !cn_tensors_have_network(t, f->nets[i].prefix))
            return false;
    return true;
}

const cn_family *cn_family_in_file(const cn_tensors *t, cn_net without)
{
    for (size_t i = 0; i < CN_COUNT(families); i++)
        if (holds_all(t, families[i], without)) return families[i];
    return NULL;
}

/* Whether a single file has all layers that OpenCLIP trained. Programs that convert from a
 * diffusers folder write SD 2.x's 23 and, most of them, no projection. */
static bool is_whole(const cn_clip_config *c)
{
    return c->layers > 1 && (c->projection ? c->layers != 23 : c->layers == 24);
}

void cn_family_settle(cn_base *b, bool from_shapes)
{
    const cn_family *f = cn_family_of(b);
    for (int k = 0; k < f->n_text; k++) {
        const cn_family_net *n = cn_family_find(f, cn_net_text(k));
        cn_clip_config *c = &b->text[k];
        if (from_shapes && n->leaves_last && is_whole(c)) c->layers--;
        if (!n->pools) c->projection = 0;
        c->penultimate = n->penultimate && c->layers > 1;
    }
    if (f->added_numbers && !b->unet.added_number_dim)
        b->unet.added_number_dim = (b->unet.added_dim - cn_base_pooled_dim(b)) / f->added_numbers;
    b->zeros_for_no_negative = f->zeros_for_no_negative;
}

int64_t cn_base_pooled_dim(const cn_base *b)
{
    int64_t width = 0;
    for (int k = 0; k < cn_family_of(b)->n_text; k++)
        if (b->text[k].projection) width = b->text[k].projection;
    return width;
}

const char *cn_family_by_context(int64_t context_dim)
{
    for (size_t i = 0; i < CN_COUNT(families); i++)
        if (families[i]->context_dim == context_dim) return families[i]->name;
    return "another model";
}

const cn_family_net *cn_family_find(const cn_family *f, cn_net net)
{
    for (int i = 0; i < f->n_nets; i++)
        if (f->nets[i].net == net) return &f->nets[i];
    return NULL;
}

const cn_net_kind *cn_base_kind_of(const cn_base *b, cn_net net)
{
    const cn_family_net *own = cn_family_find(cn_family_of(b), net);
    return cn_net_kind_of(own && own->second ? cn_net_text(1) : net);
}

int64_t cn_base_context_dim(const cn_base *b)
{
    int64_t width = 0;
    for (int k = 0; k < cn_family_of(b)->n_text; k++) width += b->text[k].hidden;
    return width;
}

int64_t cn_base_text_elements(const cn_base *b)
{
    return cn_base_context_length(b) * cn_base_context_dim(b) + cn_base_pooled_dim(b);
}

int64_t cn_base_context_length(const cn_base *b)
{
    return b->text[0].max_positions;
}
