/* SPDX-License-Identifier: Apache-2.0 */
/* bench_model.c - a base model and a ControlNet of the benchmark's sizes as diffusers folders, so
 * that whole commands can be measured without a download: OUT/base and OUT/control, seeded weights
 * in the type of --weights. What they draw is noise; the vocabulary is that of models/tiny-sd. */
#include "bench.h"

#include "model/checkpoint/family.h"
#include "model/checkpoint/network_kinds.h"
#include "model/checkpoint/weights.h"

static cn_status make(bench *b, cn_net net, const void *config, cn_params **out)
{
    CN_TRY(cn_net_declare(b->ctx, net, config, out));
    return bench_fill(b, *out);
}

static cn_status save_base(bench *b, const char *dir, cn_params **nets)
{
    const cn_family *f = cn_family_of(&b->base);
    for (int i = 0; i < f->n_nets; i++)
        CN_TRY(make(b, f->nets[i].net, cn_base_config_of(&b->base, f->nets[i].net), &nets[i]));
    const cn_base_target to = {
        .path = dir, .dtype = b->storage, .tokenizer_dir = "models/tiny-sd/tokenizer"};
    return cn_base_save_folder(b->ctx, b->backend, &b->base, (const cn_params *const *)nets,
                               f->n_nets, &to);
}

static cn_status write_base(bench *b)
{
    cn_params *nets[CN_MAX_FAMILY_NETS] = {NULL};
    char dir[CN_PATH_BYTES];
    cn_status s = cn_format(b->ctx, dir, sizeof dir, "%s/base", b->out);
    if (s == CN_OK) s = save_base(b, dir, nets);
    for (int i = 0; i < CN_MAX_FAMILY_NETS; i++) cn_params_destroy(nets[i]);
    return s;
}

static cn_status write_control(bench *b)
{
    cn_params *net = NULL;
    char dir[CN_PATH_BYTES];
    cn_status s = cn_format(b->ctx, dir, sizeof dir, "%s/control", b->out);
    if (s == CN_OK) s = make(b, CN_NET_CONTROL, &b->control, &net);
    if (s == CN_OK)
        s = cn_control_save_folder(b->ctx, b->backend, &b->control, net, b->storage, dir, NULL);
    cn_params_destroy(net);
    return s;
}

cn_status bench_model(bench *b)
{
    if (!b->out) return cn_fail(b->ctx, CN_EINVAL, "model: the folder to write is missing");
    CN_TRY(write_base(b));
    return write_control(b);
}
