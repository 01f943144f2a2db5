/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h - what a folder was made with, so that no run mixes other things into it. */
#ifndef CN_IO_SETTINGS_H
#define CN_IO_SETTINGS_H

#include "base/base.h"

/* Writes the line `settings` to the file `path`, or finds it there. CN_EMISMATCH names both when
 * the file says something else. The folder must be the caller's (cn_dir_lock). */
cn_status cn_settings_keep(cn_ctx *ctx, const char *path, const char *settings) CN_CHECKED;

#endif
