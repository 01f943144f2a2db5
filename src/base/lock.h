/* SPDX-License-Identifier: Apache-2.0 */
/* lock.h - folders that one run at a time writes into, and what killed ones leave. */
#ifndef CN_BASE_LOCK_H
#define CN_BASE_LOCK_H

#include "base/base.h"

/* Makes the folder and this process the only one that writes into it, until the lock is dropped or
 * the process ends; what a killed one left there is cleared away. CN_EIO names the process that has
 * it, its host and since when. Also a second lock by the same process is refused. drop takes
 * NULL. */
typedef struct cn_dir_lock cn_dir_lock;
cn_status cn_dir_lock_take(cn_ctx *ctx, const char *dir, cn_dir_lock **out) CN_CHECKED;
void cn_dir_lock_drop(cn_dir_lock *l);

/* Removes the temporary files that killed processes left in a folder and the folders in it. Of a
 * running process none is touched. */
cn_status cn_dir_clear_temporary(cn_ctx *ctx, const char *dir) CN_CHECKED;

#endif
