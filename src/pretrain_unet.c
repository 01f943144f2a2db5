#include "pretrain.h"
cn_status cn_pretrain_unet(cn_pretrain_run *r)
{
    return cn_fail(r->ctx, CN_EINTERNAL, "x");
}
