/* SPDX-License-Identifier: Apache-2.0 */
/* routes_metrics.c - numbers for Prometheus (its text format, version 0.0.4). */
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct metric {
    const char *name, *type, *help;
    double value;
} metric;

/* Of the process, in bytes. */
static double resident_bytes(void)
{
    double all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lf %lf", &all, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return resident * (double)sysconf(_SC_PAGESIZE);
}

static void get_metrics(const http_request *r, http_reply *reply)
{
    server *s = r->server;
    const jobs_totals t = jobs_count(s->jobs);
    const metric list[] = {
        {"jobs_waiting", "gauge", "Jobs in the queue", t.waiting},
        {"jobs_running", "gauge", "Jobs that run", t.running},
        {"jobs_added_total", "counter", "Jobs that were taken", (double)t.added},
        {"jobs_refused_total", "counter", "Jobs that found no place", (double)t.refused},
        {"jobs_done_total", "counter", "Jobs with a result", (double)t.done},
        {"jobs_failed_total", "counter", "Jobs that failed", (double)t.failed},
        {"jobs_cancelled_total", "counter", "Jobs that were cancelled", (double)t.cancelled},
        {"pictures_total", "counter", "Pictures drawn", (double)t.pictures},
        {"steps_total", "counter", "Sampling steps made", (double)t.steps},
        {"job_wait_seconds_total", "counter", "Time that jobs waited", t.wait_s},
        {"job_run_seconds_total", "counter", "Time that jobs took", t.run_s},
        {"job_ready_seconds_total", "counter", "Time from taking a job to its first sampling step",
         t.ready_s},
        {"jobs_sampled_total", "counter", "Jobs that came so far", (double)t.sampled},
        {"models_open", "gauge", "Base models that are open", s->engine->n_open},
        {"networks_bytes", "gauge", "Memory of their networks", (double)s->engine->loaded_bytes},
        {"requests_total", "counter", "HTTP requests", (double)s->requests},
        {"requests_failed_total", "counter", "Those answered by 400 and more",
         (double)s->bad_requests},
        {"requests_denied_total", "counter", "Those of a wrong host, origin or key",
         (double)s->denied},
        {"connections", "gauge", "Open connections", guard_count(s->watch)},
        {"resident_memory_bytes", "gauge", "Memory of the process", resident_bytes()},
        {"uptime_seconds", "gauge", "Since the start", jobs_now_s() - s->began_s},
    };
    FILE *f = open_memstream(&reply->body, &reply->body_bytes);
    for (size_t i = 0; f && i < sizeof list / sizeof *list; i++)
        fprintf(f, "# HELP controlnet_%s %s\n# TYPE controlnet_%s %s\ncontrolnet_%s %.17g\n",
                list[i].name, list[i].help, list[i].name, list[i].type, list[i].name,
                list[i].value);
    if (!f || fclose(f) != 0) {
        http_reply_error(reply, 503, "out of memory");
        return;
    }
    reply->type = "text/plain; version=0.0.4; charset=utf-8";
}

const http_route routes_metrics[] = {
    {"GET", "/metrics", get_metrics, ROUTE_QUIET, "Numbers for Prometheus", NULL, "text"}, {0}};
