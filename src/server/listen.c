/* SPDX-License-Identifier: Apache-2.0 */
/* listen.c - where the server listens: an address of this machine, or a Unix socket. */
#include "server/server_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static const char unix_prefix[] = "unix:";

static const char *unix_path(const server *s)
{
    const size_t n = sizeof unix_prefix - 1;
    return strncmp(s->o.host, unix_prefix, n) == 0 ? s->o.host + n : NULL;
}

static int fail(int fd, char *why, size_t cap, const char *what)
{
    snprintf(why, cap, "%s: %s", what, strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

/* A socket's file that nobody answers at is an earlier process's. */
static void remove_dead(const struct sockaddr_un *a)
{
    struct stat st;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool dead = fd >= 0 && stat(a->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
                      connect(fd, (const struct sockaddr *)a, sizeof *a) != 0 &&
                      errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    if (dead) unlink(a->sun_path);
}

/* Whoever may open the file may ask; its owner alone. */
static int listen_unix(server *s, const char *path, char *why, size_t cap)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof a.sun_path) {
        snprintf(why, cap, "--host unix:%s: a path of 1 to %zu bytes is expected", path,
                 sizeof a.sun_path - 1);
        return -1;
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(fd, why, cap, "no socket");
    remove_dead(&a);
    const mode_t before = umask(0177);
    const int bound = bind(fd, (const struct sockaddr *)&a, sizeof a);
    const int error = errno;
    umask(before);
    errno = error;
    if (bound != 0 || listen(fd, BACKLOG) != 0) return fail(fd, why, cap, s->o.host);
    s->loopback = true;
    snprintf(s->address, sizeof s->address, "%s", s->o.host);
    return fd;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* http://HOST:PORT, with the port that the system chose for 0. */
static void write_address(server *s, int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[INET6_ADDRSTRLEN] = "", port[8] = "";
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0 ||
        getnameinfo((const struct sockaddr *)&a, n, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    const bool v6 = a.ss_family == AF_INET6;
    snprintf(s->address, sizeof s->address, "http://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "",
             port);
}

static int listen_at(server *s, const struct addrinfo *a, char *why, size_t cap)
{
    const int on = 1;
    if (!is_loopback(a->ai_addr) && !s->o.api_key && !s->o.no_auth) {
        snprintf(why, cap,
                 "--host %s: others could reach the server: give --api-key or --api-key-file, or "
                 "--no-auth to let "
                 "everybody in",
                 s->o.host);
        return -1;
    }
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(fd, why, cap, "no socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    char where[300];
    snprintf(where, sizeof where, "cannot listen at %s, port %d", s->o.host, s->o.port);
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
        return fail(fd, why, cap, where);
    s->loopback = is_loopback(a->ai_addr);
    write_address(s, fd);
    return fd;
}

int server_listen(server *s, char *why, size_t cap)
{
    const char *path = unix_path(s);
    if (path) return listen_unix(s, path, why, cap);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *list = NULL;
    char port[8];
    const char *host = strcmp(s->o.host, "localhost") == 0 ? "127.0.0.1" : s->o.host;
    snprintf(port, sizeof port, "%d", s->o.port);
    if (getaddrinfo(host, port, &hints, &list) != 0) {
        snprintf(why, cap,
                 "--host %s: an address (127.0.0.1, ::1, 0.0.0.0), localhost or "
                 "unix:PATH is expected",
                 s->o.host);
        return -1;
    }
    const int fd = listen_at(s, list, why, cap);
    freeaddrinfo(list);
    return fd;
}

void server_unlisten(const server *s)
{
    const char *path = unix_path(s);
    if (path) unlink(path);
}
