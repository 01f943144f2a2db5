/* SPDX-License-Identifier: Apache-2.0 */
/* unit_pairs.c - see unit_pairs.h. */
#include "unit_pairs.h"

#include "unit.h"

cn_status open_at(const char *dir, cn_dataset **d)
{
    return cn_dataset_open(ctx, &(cn_dataset_options){.dir = dir}, d);
}

void expect_pictures(const cn_dataset *d, int64_t i, int condition, int target)
{
    cn_image *c = NULL, *t = NULL;
    must(cn_dataset_load(ctx, d, i, 0, 0, &c, &t));
    assert_int_equal(c->rgb[0], condition);
    assert_int_equal(t->rgb[0], target);
    cn_image_destroy(c);
    cn_image_destroy(t);
}
