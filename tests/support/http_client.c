/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.c - see http_client.h. */
#include "http_client.h"

#include "child.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- the server ------------------------------------------------------------------------------- */

/* A line that begins so. */
static const char *line_with(const char *text, const char *begin)
{
    const char *at = strstr(text, begin);
    while (at && at > text && at[-1] != '\n') at = strstr(at + 1, begin);
    return at;
}

/* Lines until one is an address; false at the end of what comes. */
static bool read_address(serve_child *s, int fd)
{
    size_t n = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (n + 1 < sizeof s->said && poll(&p, 1, 1000 * HTTP_SECONDS) > 0) {
        const ssize_t got = read(fd, s->said + n, sizeof s->said - 1 - n);
        if (got <= 0) return false;
        n += (size_t)got;
        s->said[n] = 0;
        const char *at = line_with(s->said, "http://127.0.0.1:");
        if (!at) at = line_with(s->said, "unix:");
        if (!at || !strchr(at, '\n')) continue;
        snprintf(s->address, sizeof s->address, "%.*s", (int)strcspn(at, "\n"), at);
        const char *port = strrchr(s->address, ':');
        s->port = *s->address == 'h' ? (int)strtol(port + 1, NULL, 10) : 0;
        return true;
    }
    return false;
}

bool serve_start(serve_child *s, const char *program, const char *const *args)
{
    char *argv[SERVE_ARGS + 5] = {(char *)(uintptr_t)program, "serve", "--port", "0"};
    int ends[2], n = 4;
    *s = (serve_child){.pid = -1};
    for (; *args && n < SERVE_ARGS + 4; args++) argv[n++] = (char *)(uintptr_t)*args;
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    fflush(stdout);
    s->pid = test_start(argv, ends[1]);
    close(ends[1]);
    const bool good = s->pid > 0 && read_address(s, ends[0]);
    /* Its log lines go on into a pipe that nobody reads: SIGPIPE is ignored there. */
    close(ends[0]);
    return good;
}

int serve_stop(serve_child *s, int signal_number)
{
    if (s->pid <= 0) return -1;
    if (signal_number) kill(s->pid, signal_number);
    const int status = test_wait(s->pid, HTTP_SECONDS);
    s->pid = -1;
    return status;
}

/* --- requests --------------------------------------------------------------------------------- */

int http_connect(const serve_child *s)
{
    const struct timeval limit = {.tv_sec = HTTP_SECONDS};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    const bool is_unix = s->port == 0;
    const int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (is_unix) snprintf(un.sun_path, sizeof un.sun_path, "%.100s", s->address + 5);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const int done = is_unix ? connect(fd, (const struct sockaddr *)&un, sizeof un)
                             : connect(fd, (const struct sockaddr *)&in, sizeof in);
    if (done == 0) return fd;
    close(fd);
    return -1;
}

static char *read_all(int fd, size_t *n)
{
    char *text = malloc(1);
    size_t used = 0;
    for (;;) {
        char *more = realloc(text, used + 65537);
        if (!more) break;
        text = more;
        const ssize_t got = recv(fd, text + used, 65536, 0);
        if (got <= 0) break;
        used += (size_t)got;
    }
    if (text) text[used] = 0;
    *n = used;
    return text;
}

/* What the server doesn't want to read further it may refuse on the way. */
static void send_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0) return;
        bytes += sent;
        n -= (size_t)sent;
    }
}

http_answer http_send(const serve_child *s, const void *bytes, size_t n)
{
    http_answer a = {0};
    size_t all = 0;
    const int fd = http_connect(s);
    if (fd < 0) return a;
    send_all(fd, bytes, n);
    a.head = read_all(fd, &all);
    close(fd);
    char *end = a.head ? strstr(a.head, "\r\n\r\n") : NULL;
    if (!end || strncmp(a.head, "HTTP/1.", 7) != 0) return a;
    *end = 0;
    a.status = (int)strtol(a.head + 9, NULL, 10);
    a.body = end + 4;
    a.bytes = all - (size_t)(a.body - a.head);
    return a;
}

http_answer http_ask(const serve_child *s, const char *method, const char *path,
                     const char *headers, const void *body, size_t n)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) return (http_answer){0};
    fprintf(f, "%s %s HTTP/1.0\r\n", method, path);
    if (!headers || !strstr(headers, "Host:")) fprintf(f, "Host: 127.0.0.1\r\n");
    if (body) fprintf(f, "Content-Length: %zu\r\n", n);
    fprintf(f, "%s\r\n", headers ? headers : "");
    if (body) fwrite(body, 1, n, f);
    fclose(f);
    const http_answer a = http_send(s, text, bytes);
    free(text);
    return a;
}

void http_free(http_answer *a)
{
    free(a->head);
    *a = (http_answer){0};
}
