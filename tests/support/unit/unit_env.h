/* SPDX-License-Identifier: Apache-2.0 */
/* unit_env.h - a unit test's context together with the CPU backend. */
#ifndef TEST_UNIT_ENV_H
#define TEST_UNIT_ENV_H

#include "../env.h"
#include "unit.h"

extern test_env env; /* its context is ctx */

/* A group's set_up, of two threads, and its tear_down. */
int unit_env_open(void **state);
int unit_env_close(void **state);

#endif
