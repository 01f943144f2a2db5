/* SPDX-License-Identifier: Apache-2.0 */
/* guard.h - who may ask: hosts, origins, keys; and how long a request may take to arrive. */
#ifndef CN_SERVER_GUARD_H
#define CN_SERVER_GUARD_H

#include <stdbool.h>
#include <stddef.h>

struct MHD_Connection;

/* Whether a Host header names this machine itself: localhost, 127.0.0.0/8 or [::1], with any port.
 * A page elsewhere whose name was made to point here (DNS rebinding) sends its own name. */
bool guard_is_loopback_host(const char *host);
/* Whether an Origin header is that of the server's own pages, or the one that --cors names (NULL:
 * none). host: the Host header. A browser sends Origin with every POST from a page. */
bool guard_allows_origin(const char *origin, const char *host, const char *cors);
/* Whether Authorization (Bearer, or Basic with the key as password) or X-API-Key hold the key.
 * NULL: absent. The time taken says nothing about the key. */
bool guard_knows_key(const char *key, const char *authorization, const char *x_api_key);

/* --- connections ------------------------------------------------------------------------------ */

/* Requests that take too long to arrive are cut off: a client that sends a byte now and then would
 * hold a connection for ever. */
typedef struct guard_watch guard_watch;
typedef struct guard_entry guard_entry;

/* NULL without memory or thread. */
guard_watch *guard_watch_open(int header_s, int body_s);
void guard_watch_close(guard_watch *w);
/* A connection begins and ends. */
guard_entry *guard_add(guard_watch *w, int fd);
void guard_remove(guard_watch *w, guard_entry *e);
/* What it is at now; counted from here. */
typedef enum guard_phase { GUARD_HEAD, GUARD_BODY, GUARD_REPLY } guard_phase;
void guard_enter(guard_watch *w, guard_entry *e, guard_phase phase);
int guard_count(guard_watch *w);

#endif
