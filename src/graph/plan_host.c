/* SPDX-License-Identifier: Apache-2.0 */
/* plan_host.c - what the host gives to a plan and gets from it where the backend's memory is its
 * own: a copy of each input, sent before a run if somebody may have written to it, and of each
 * output, fetched behind it. So a run is waited for once, and what fails then is the run's failure.
 */
#include "graph/plan_run.h"

static cn_status add_copy(cn_plan *p, const cn_node *x)
{
    const int b = cn_plan_buffer(p, x);
    const cn_param *q = cn_plan_param(x);
    if (b < 0 && !q) return CN_OK;
    cn_host_copy *h = &p->host[q ? p->n_host++ : b];
    if (h->data) return CN_OK;
    h->param = q;
    h->bytes = q ? q->data_bytes : p->buffers[b].bytes;
    h->input = x->op == CN_OP_INPUT;
    h->fresh = h->input;
    return (h->data = cn_alloc0(p->ctx, CN_MAX(h->bytes, 1))) ? CN_OK : CN_ENOMEM;
}

cn_status cn_plan_host_create(cn_plan *p, cn_node *const *outputs, int n)
{
    if (p->backend->addressable) return CN_OK;
    p->host = cn_alloc0(p->ctx, (size_t)(p->n_buffers + n + 1) * sizeof *p->host);
    if (!p->host) return CN_ENOMEM;
    p->n_host = p->n_buffers;
    for (int id = 0; id < p->n_nodes; id++) {
        const cn_node *x = cn_graph_node(p->g, id);
        if (p->needed[id] && x->op == CN_OP_INPUT) CN_TRY(add_copy(p, x));
    }
    for (int i = 0; i < n; i++)
        if (outputs[i]) CN_TRY(add_copy(p, outputs[i]));
    return CN_OK;
}

void cn_plan_host_free(cn_plan *p)
{
    for (int b = 0; b < p->n_host; b++) cn_free(p->host[b].data);
    cn_free(p->host);
}

void *cn_plan_host_data(cn_plan *p, int b, const cn_param *param)
{
    for (int i = p->n_buffers; b < 0 && param && i < p->n_host; i++)
        if (p->host[i].param == param) b = i;
    if (b < 0) return NULL;
    p->host[b].fresh = p->host[b].input;
    return p->host[b].data;
}

void cn_plan_host_lost(cn_plan *p)
{
    for (int b = 0; b < p->n_host; b++) p->host[b].fresh = p->host[b].input;
}

cn_status cn_plan_host_send(cn_plan *p)
{
    for (int b = 0; b < p->n_host; b++) {
        cn_host_copy *h = &p->host[b];
        if (!h->fresh) continue;
        CN_TRY(p->backend->write(p->backend, p->ctx, p->arena + p->buffers[b].offset, h->data,
                                 h->bytes));
        h->fresh = false;
    }
    return CN_OK;
}

cn_status cn_plan_host_fetch(cn_plan *p)
{
    for (int b = 0; b < p->n_host; b++) {
        cn_host_copy *h = &p->host[b];
        if (!h->data || h->input) continue;
        const void *from = h->param ? h->param->data : p->arena + p->buffers[b].offset;
        CN_TRY(p->backend->read(p->backend, p->ctx, h->data, from, h->bytes));
    }
    return CN_OK;
}

cn_status cn_plan_host_look(const cn_plan *p, const cn_node *y, const void *at, void **held,
                            const void **values)
{
    const size_t bytes = (size_t)cn_node_elements(y) * cn_dtype_bytes(y->dtype);
    *held = NULL;
    *values = at;
    if (p->backend->addressable) return CN_OK;
    if (!(*held = cn_alloc(p->ctx, CN_MAX(bytes, 1)))) return CN_ENOMEM;
    *values = *held;
    const cn_status s = p->backend->read(p->backend, p->ctx, *held, at, bytes);
    if (s == CN_OK) return s;
    cn_free(*held);
    *held = NULL;
    return s;
}
