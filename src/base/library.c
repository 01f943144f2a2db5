/* SPDX-License-Identifier: Apache-2.0 */
/* library.c - see library.h. */
#include "base/library.h"
#include "base/base.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static bool bind_calls(cn_library *l, char *why, size_t room)
{
    void *handle = dlopen(l->file, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        snprintf(why, room, "%s isn't there: %s", l->file, l->without);
        return false;
    }
    for (size_t i = 0; i < l->n; i++) {
        void *call = dlsym(handle, l->names[i]);
        if (!call) {
            snprintf(why, room, "%s has no %s: %s", l->file, l->names[i], l->without);
            dlclose(handle);
            return false;
        }
        memcpy((char *)l->calls + i * sizeof call, &call, sizeof call);
    }
    l->open = true;
    return true;
}

bool cn_library_find(cn_library *l, char *why, size_t room)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    const bool found = l->open || bind_calls(l, why, room);
    pthread_mutex_unlock(&lock);
    return found;
}

cn_status cn_library_open(cn_ctx *ctx, cn_library *l)
{
    char why[256];
    return cn_library_find(l, why, sizeof why) ? CN_OK : cn_fail(ctx, CN_EIO, "%s", why);
}
