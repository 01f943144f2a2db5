/* SPDX-License-Identifier: Apache-2.0 */
/* library.h - shared libraries that are opened when they are first needed.
 *
 * What few runs want (pictures of rare formats, the server) costs the others nothing: libavif,
 * libjxl, libtiff and libmicrohttpd bring forty more libraries, which took 30 ms of each start. And
 * a program that doesn't find one of them runs without what it is for. Programs may use this header
 * too: it stands on the public one alone.
 */
#ifndef CN_BASE_LIBRARY_H
#define CN_BASE_LIBRARY_H

#include "controlnet.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct cn_library {
    const char *file;    /* as the linker writes it down: "libavif.so.15" */
    const char *without; /* what is so where it isn't there: "AVIF pictures are not read" */
    const char *const *names;
    size_t n;
    void *calls; /* [n] pointers to functions, in the order of names */
    bool open;
} cn_library;

/* Fills the calls unless that is done, from any thread; false, and why, where the library or one of
 * its functions isn't there. It stays open until the program ends. */
bool cn_library_find(cn_library *l, char *why, size_t room);
/* The same; CN_EIO. */
cn_status cn_library_open(cn_ctx *ctx, cn_library *l);

#define CN_LIBRARY_FIELD(name) __typeof__(name) *name;
#define CN_LIBRARY_NAME(name)  #name,
/* The type of `lib`, whose members are the functions of LIST(X) as the library's header declares
 * them. */
#define CN_LIBRARY_CALLS(lib, LIST) \
    struct lib##_calls {            \
        LIST(CN_LIBRARY_FIELD)      \
    }
/* Defines `lib` and lib_library, to be opened before a member of lib is called. storage: static, or
 * nothing. */
#define CN_LIBRARY(storage, lib, LIST, soname, without)               \
    static const char *const lib##_names[] = {LIST(CN_LIBRARY_NAME)}; \
    storage struct lib##_calls lib;                                   \
    storage cn_library lib##_library = {                              \
        soname, without, lib##_names, sizeof lib##_names / sizeof *lib##_names, &lib, false}

#endif
