/* SPDX-License-Identifier: Apache-2.0 */
/* guard.c - who may ask, and how long a request may take to arrive. */
#include "server/guard.h"

#include "server/base64.h"
#include "server/sha256.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

/* --- hosts and origins ------------------------------------------------------------------------ */

static bool is_digits(const char *s)
{
    if (!*s) return false;
    while (*s >= '0' && *s <= '9') s++;
    return !*s;
}

/* Of a.b.c.d, whether it is 127.*; n bytes. */
static bool is_loopback_address(const char *s, size_t n)
{
    int dots = 0;
    if (n < 9 || n > 15 || memcmp(s, "127.", 4) != 0) return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.')
            dots++;
        else if (s[i] < '0' || s[i] > '9')
            return false;
    }
    return dots == 3;
}

bool guard_is_loopback_host(const char *host)
{
    if (!host) return false;
    const size_t n =
        host[0] == '[' ? strcspn(host, "]") + (strchr(host, ']') ? 1 : 0) : strcspn(host, ":");
    if (host[n] && (host[n] != ':' || !is_digits(host + n + 1))) return false;
    return (n == 9 && strncasecmp(host, "localhost", 9) == 0) || is_loopback_address(host, n) ||
           (n == 5 && memcmp(host, "[::1]", 5) == 0);
}

bool guard_allows_origin(const char *origin, const char *host, const char *cors)
{
    if (!origin) return true;
    if (cors && strcmp(origin, cors) == 0) return true;
    const char *name = strstr(origin, "://");
    return host && name && strcasecmp(name + 3, host) == 0;
}

/* --- keys ------------------------------------------------------------------------------------- */

/* Hashes of the same length are compared to the end, whatever they begin with. */
static bool same_secret(const char *a, const char *b, size_t b_bytes)
{
    uint8_t x[SHA256_BYTES], y[SHA256_BYTES];
    volatile uint8_t differs = 0;
    sha256(a, strlen(a), x);
    sha256(b, b_bytes, y);
    for (int i = 0; i < SHA256_BYTES; i++) differs |= x[i] ^ y[i];
    return !differs;
}

static bool knows_basic(const char *key, const char *encoded)
{
    size_t n = 0;
    char *text = base64_decode(encoded, strlen(encoded), &n);
    const char *colon = text ? memchr(text, ':', n) : NULL;
    const bool good = colon && same_secret(key, colon + 1, n - (size_t)(colon + 1 - text));
    free(text);
    return good;
}

bool guard_knows_key(const char *key, const char *authorization, const char *x_api_key)
{
    if (x_api_key && same_secret(key, x_api_key, strlen(x_api_key))) return true;
    if (!authorization) return false;
    if (strncasecmp(authorization, "Bearer ", 7) == 0)
        return same_secret(key, authorization + 7, strlen(authorization + 7));
    return strncasecmp(authorization, "Basic ", 6) == 0 && knows_basic(key, authorization + 6);
}

/* --- connections ------------------------------------------------------------------------------ */

struct guard_entry {
    int fd;
    guard_phase phase;
    double since;
    bool cut;
    guard_entry *next;
};

struct guard_watch {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    guard_entry *entries;
    int count, header_s, body_s;
    bool ends;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The reading side alone: a reply on its way is still sent. */
static void cut_overdue(guard_watch *w)
{
    const double now = now_s();
    for (guard_entry *e = w->entries; e; e = e->next) {
        const int limit = e->phase == GUARD_HEAD ? w->header_s : w->body_s;
        if (e->cut || e->phase == GUARD_REPLY || now - e->since < limit) continue;
        e->cut = true;
        shutdown(e->fd, SHUT_RD);
    }
}

static void *watch(void *user)
{
    guard_watch *w = user;
    pthread_mutex_lock(&w->lock);
    while (!w->ends) {
        struct timespec until;
        cut_overdue(w);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&w->wake, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

guard_watch *guard_watch_open(int header_s, int body_s)
{
    guard_watch *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->header_s = header_s;
    w->body_s = body_s;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    if (pthread_create(&w->thread, NULL, watch, w) == 0) return w;
    free(w);
    return NULL;
}

void guard_watch_close(guard_watch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->ends = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    while (w->entries) guard_remove(w, w->entries);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

guard_entry *guard_add(guard_watch *w, int fd)
{
    guard_entry *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    *e = (guard_entry){.fd = fd, .since = now_s()};
    pthread_mutex_lock(&w->lock);
    e->next = w->entries;
    w->entries = e;
    w->count++;
    pthread_mutex_unlock(&w->lock);
    return e;
}

void guard_remove(guard_watch *w, guard_entry *e)
{
    if (!e) return;
    pthread_mutex_lock(&w->lock);
    guard_entry **at = &w->entries;
    while (*at && *at != e) at = &(*at)->next;
    if (*at) *at = e->next;
    w->count--;
    pthread_mutex_unlock(&w->lock);
    free(e);
}

void guard_enter(guard_watch *w, guard_entry *e, guard_phase phase)
{
    if (!e) return;
    pthread_mutex_lock(&w->lock);
    e->phase = phase;
    e->since = now_s();
    pthread_mutex_unlock(&w->lock);
}

int guard_count(guard_watch *w)
{
    pthread_mutex_lock(&w->lock);
    const int n = w->count;
    pthread_mutex_unlock(&w->lock);
    return n;
}
