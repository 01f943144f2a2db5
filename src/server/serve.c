/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - `controlnet serve` from its start to the signal that ends it.
 *
 * Signals are blocked in every thread and waited for here. The first one ends the server in order:
 * no new jobs, the running one cancelled at its next step, answers sent; the second one at once.
 */
#include "server/server_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DONE = 0, FAILED = 1, KEPT_JOBS = 64, KEPT_BYTES = 256 << 20 };

const http_route *const server_routes[] = {routes_page,        routes_jobs,    routes_webui,
                                           routes_webui_lists, routes_control, routes_openai,
                                           routes_metrics,     routes_docs,    NULL};

static int fail(const char *why)
{
    fprintf(stderr, "controlnet serve: %s\n", why);
    return FAILED;
}

/* --- jobs of an earlier process --------------------------------------------------------------- */

static void add_saved(void *user, const char *id, json_t *request)
{
    server *s = user;
    const draw_reader reader = server_reader(s);
    const job_kind *kind = NULL;
    const char *full;
    char why[WHY_BYTES];
    if (json_object_get(request, "name")) /* a run that was begun goes on */
        json_object_set_new(request, "resume", json_true());
    void *work = job_read(&reader, request, &kind, why);
    if (work) {
        jobs_release(s->jobs, jobs_add(s->jobs, kind, request, work, id, &full));
        return;
    }
    fprintf(stderr,
            "controlnet serve: job %s of --state can't be done any more: %s (its request is kept "
            "as %s%s)\n",
            id, why, id, jobs_state_put_away(s->o.state_dir, id));
    json_decref(request);
}

static void name_left(void *user, const char *file, const char *why)
{
    (void)user;
    fprintf(stderr, "controlnet serve: --state: %s is left as it is: %s\n", file, why);
}

static void load_saved(server *s)
{
    const jobs_state_calls calls = {.add = add_saved, .left = name_left, .user = s};
    if (!s->o.state_dir || jobs_state_load(s->o.state_dir, &calls)) return;
    fprintf(stderr,
            "controlnet serve: --state %s: %s; jobs that were left there wait for another start\n",
            s->o.state_dir, strerror(errno));
}

/* --- parts ------------------------------------------------------------------------------------ */

static bool check_dirs(const server *s, char *why, size_t cap)
{
    const char *const dirs[] = {s->o.save_dir, s->o.state_dir, s->o.data_dir, s->o.annotators_dir};
    static const char *const names[] = {"save", "state", "data", "annotators"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        const bool written = i < 2;
        if (!dirs[i] || access(dirs[i], R_OK | X_OK | (written ? W_OK : 0)) == 0) continue;
        snprintf(why, cap, "--%s %s: %s", names[i], dirs[i], strerror(errno));
        return false;
    }
    return true;
}

/* The first model is opened now, so that what is wrong with it is known. */
static bool open_engine(server *s, char *why, size_t cap)
{
    const char *stray = models_stray_base(s->models);
    json_t *first = models_base(s->models, NULL);
    const char *path = json_string_value(json_object_get(first, "path"));
    if (stray && s->o.models[1])
        snprintf(why, cap, "-m %s: neither a base model nor a folder of them", stray);
    else
        s->engine = engine_open(&s->o, path ? path : "", s->jobs, why, cap);
    json_decref(first);
    return s->engine != NULL;
}

static bool open_parts(server *s, char *why, size_t cap)
{
    if (!check_dirs(s, why, cap)) return false;
    if (s->o.state_dir && (s->state_lock = jobs_state_lock(s->o.state_dir, why, cap)) < 0)
        return false;
    s->began_s = jobs_now_s();
    s->jobs = jobs_open(s->o.queue, KEPT_JOBS, KEPT_BYTES, s->o.state_dir);
    s->models = models_open(s->o.models, s->o.control_dirs);
    s->watch = guard_watch_open(s->o.header_timeout_s, s->o.body_timeout_s);
    if (!s->jobs || !s->models || !s->watch) {
        snprintf(why, cap, "out of memory");
        return false;
    }
    s->clip_skip = 1;
    return open_engine(s, why, cap);
}

static void close_parts(server *s)
{
    engine_close(s->engine);
    guard_watch_close(s->watch);
    models_close(s->models);
    jobs_close(s->jobs);
    if (s->state_lock >= 0) close(s->state_lock);
}

/* --- running ---------------------------------------------------------------------------------- */

static void open_browser(const server *s)
{
    pid_t pid;
    char *const argv[] = {"xdg-open", (char *)(uintptr_t)s->address, NULL};
    if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
        fprintf(stderr, "controlnet serve: --open: there is no xdg-open here\n");
}

/* Until a signal comes; once a second, a look at the running job's time. */
static void wait_for_signal(server *s, const sigset_t *signals)
{
    const struct timespec second = {.tv_sec = 1};
    while (sigtimedwait(signals, NULL, &second) < 0) jobs_enforce(s->jobs, s->o.job_timeout_s);
}

static void *end_at_once(void *user)
{
    int number;
    sigwait(user, &number);
    _exit(FAILED);
}

static void serve(server *s, const sigset_t *signals)
{
    pthread_t thread, second;
    if (pthread_create(&thread, NULL, engine_run, s->engine) != 0) {
        fail("no thread for the engine");
        return;
    }
    load_saved(s);
    printf("%s\n", s->address); /* what the program answers: scripts read it */
    fflush(stdout);
    if (s->o.open) open_browser(s);
    wait_for_signal(s, signals);
    fprintf(stderr, "controlnet serve: ending; a second signal ends it at once\n");
    if (pthread_create(&second, NULL, end_at_once, (void *)(uintptr_t)signals) == 0)
        pthread_detach(second);
    s->ends = true;
    jobs_shut(s->jobs, true);
    pthread_join(thread, NULL);
    server_daemon_stop(s);
}

int server_run(const server_options *options)
{
    server s = {.o = *options, .state_lock = -1};
    char why[4096] = "out of memory";
    sigset_t signals;
    int status = FAILED;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    const int fd = server_listen(&s, why, sizeof why);
    if (fd >= 0 && open_parts(&s, why, sizeof why)) {
        if (server_daemon_start(&s, fd, why, sizeof why)) {
            serve(&s, &signals);
            status = DONE;
        } else {
            close(fd);
            fail(why);
        }
    } else {
        if (fd >= 0) close(fd);
        fail(why);
    }
    if (fd >= 0) server_unlisten(&s);
    close_parts(&s);
    return status;
}
