/* SPDX-License-Identifier: Apache-2.0 */
/* mhd.h - libmicrohttpd, opened by the first server (base/library.h): it brings a library of TLS
 * and ten more, which no other command needs. */
#ifndef CN_SERVER_MHD_H
#define CN_SERVER_MHD_H

#include "base/library.h"

#include <microhttpd.h>

#define MHD_CALLS(X)                     \
    X(MHD_add_response_header)           \
    X(MHD_create_response_from_buffer)   \
    X(MHD_create_response_from_callback) \
    X(MHD_destroy_response)              \
    X(MHD_get_connection_info)           \
    X(MHD_lookup_connection_value)       \
    X(MHD_queue_response)                \
    X(MHD_set_connection_option)         \
    X(MHD_start_daemon)                  \
    X(MHD_stop_daemon)
CN_LIBRARY_CALLS(mhd, MHD_CALLS);
/* Defined in http_daemon.c. */
extern struct mhd_calls mhd;
extern cn_library mhd_library;

#endif
