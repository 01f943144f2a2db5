/* SPDX-License-Identifier: Apache-2.0 */
/* test_hazards.c - which barriers recorded work gets (gpu/hazards.h), against a check of its own:
 * every pair of items that touch the same bytes, one of them writing, has a barrier between them,
 * and no barrier stands where the items since the last one leave the next alone. */
#include "../support/unit/unit.h"

#include "gpu/hazards.h"

enum { ITEMS = 400, RANGES = 4, BYTES = 512 };

typedef struct item {
    int n, from[RANGES], to[RANGES];
    bool writes[RANGES];
    bool waits; /* a barrier stands before it */
} item;

static char memory[BYTES];

/* Whether b must wait for a. */
static bool conflict(const item *a, const item *b)
{
    for (int byte = 0; byte < BYTES; byte++) {
        bool touched[2] = {0}, written = false;
        for (int k = 0; k < 2; k++) {
            const item *o = k ? b : a;
            for (int i = 0; i < o->n; i++)
                if (o->from[i] <= byte && byte < o->to[i]) {
                    touched[k] = true;
                    written = written || o->writes[i];
                }
        }
        if (touched[0] && touched[1] && written) return true;
    }
    return false;
}

static void make(item *x, cn_rng *rng, cn_hazards *h)
{
    x->n = 1 + (int)cn_rng_below(rng, RANGES);
    for (int i = 0; i < x->n; i++) {
        x->from[i] = (int)cn_rng_below(rng, BYTES - 16);
        x->to[i] = x->from[i] + (int)cn_rng_below(rng, 16); /* some touch nothing */
        x->writes[i] = cn_rng_below(rng, 4) == 0;
        cn_hazards_use(h, memory + x->from[i], (size_t)(x->to[i] - x->from[i]), x->writes[i]);
    }
    x->waits = cn_hazards_next(h);
}

static void barriers_are_those_needed(void **state)
{
    (void)state;
    static item items[ITEMS];
    static cn_hazards h;
    cn_rng rng;
    int barriers = 0;
    cn_rng_seed(&rng, 7);
    for (int i = 0; i < ITEMS; i++) make(&items[i], &rng, &h);
    for (int i = 0; i < ITEMS; i++) {
        bool needed = false;
        for (int k = i - 1; k >= 0; k--) {
            needed = needed || conflict(&items[k], &items[i]);
            if (items[k].waits) break;
        }
        assert_int_equal(items[i].waits, needed);
        barriers += items[i].waits;
    }
    assert_in_range(barriers, 20, ITEMS - 20); /* both happen */
}

/* What doesn't fit into the lists has barriers around it. */
static void too_many_ranges_wait(void **state)
{
    (void)state;
    static cn_hazards h;
    cn_hazards_use(&h, memory, 1, false);
    assert_false(cn_hazards_next(&h));
    for (int i = 0; i < 100; i++) cn_hazards_use(&h, memory + i, 1, false);
    assert_true(cn_hazards_next(&h));
    cn_hazards_use(&h, memory + 200, 1, false);
    assert_true(cn_hazards_next(&h));
    cn_hazards_use(&h, memory + 201, 1, true);
    assert_false(cn_hazards_next(&h));
    cn_hazards_clear(&h);
    cn_hazards_use(&h, memory + 201, 1, true);
    assert_false(cn_hazards_next(&h));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_are_those_needed),
        cmocka_unit_test(too_many_ranges_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
