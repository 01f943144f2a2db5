/* SPDX-License-Identifier: Apache-2.0 */
/* unit_env.c - see unit_env.h. */
#include "unit_env.h"

test_env env;

int unit_env_open(void **state)
{
    (void)state;
    if (!test_env_open(&env, 2)) return -1;
    ctx = env.ctx;
    return 0;
}

int unit_env_close(void **state)
{
    (void)state;
    test_env_close(&env);
    return 0;
}
