/* SPDX-License-Identifier: Apache-2.0 */
/* sys_hooks.c - every call is made as it is asked for. A program that is to fail at chosen ones
 * brings its own two functions (tests/faults). */
#include "base/sys.h"

bool cn_sys_before(const cn_sys_call *call)
{
    (void)call;
    return true;
}

void cn_sys_after(const cn_sys_call *call, int64_t result)
{
    (void)call, (void)result;
}
