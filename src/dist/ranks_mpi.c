/* SPDX-License-Identifier: Apache-2.0 */
/* ranks_mpi.c - ranks by MPI, through its non-blocking calls alone: a wait that can look around. */
#include "dist/ranks.h"

#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FLIGHT = 256, SPINS = 200, CHUNK = 1 << 28 };

#define LOOK_SECONDS 0.05

/* By these a user or the system asks a process to stop, or a stream says that it is closed. */
static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE};

typedef struct peer {
    char host[64];
    int64_t pid;
} peer;

struct cn_ranks {
    cn_ctx *ctx;
    int rank, count;
    peer *peers; /* [count] */
    int dead;    /* the rank that was seen to have ended, -1: none */
    MPI_Win window;
    int *reporter; /* shared by this machine's ranks: who reports a death, + 1; 0: nobody yet */
    double looked_s;
    bool agreed_failure; /* all of them end */
    MPI_Request flight[MAX_FLIGHT];
    size_t bytes[MAX_FLIGHT];
    int n_flight;
    size_t flight_bytes;
};

static cn_status check(cn_ranks *r, int code, const char *what)
{
    if (code == MPI_SUCCESS) return CN_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    return cn_fail(r->ctx, CN_EIO, "rank %d: MPI can't %s: %s", r->rank, what, text);
}

/* --- who is there ----------------------------------------------------------------------------- */

static bool is_here(const cn_ranks *r, int i)
{
    return strcmp(r->peers[i].host, r->peers[r->rank].host) == 0;
}

/* Whether a process has ended, though whoever started it may never wait for it: an mpirun into
 * which hwloc's OpenCL plug-in has loaded PoCL doesn't. */
static bool has_ended(pid_t pid)
{
    char path[64], line[512] = "";
    if (kill(pid, 0) != 0) return errno == ESRCH;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *f = fopen(path, "re");
    if (!f) return false; /* without /proc, what kill says counts */
    const char *state = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    fclose(f);
    return state && (strncmp(state, ") Z", 3) == 0 || strncmp(state, ") X", 3) == 0);
}

static bool is_gone(const cn_ranks *r, int i)
{
    return is_here(r, i) && has_ended((pid_t)r->peers[i].pid);
}

void cn_ranks_describe(const cn_ranks *r, int rank, char out[CN_RANKS_NAME_BYTES])
{
    snprintf(out, CN_RANKS_NAME_BYTES, "rank %d of %d (process %lld on %s)", rank, r->count,
             (long long)r->peers[rank].pid, r->peers[rank].host);
}

static cn_status find_local_ranks(cn_ranks *r)
{
    const double now = cn_now_s();
    char who[CN_RANKS_NAME_BYTES];
    if (now - r->looked_s < LOOK_SECONDS) return CN_OK;
    r->looked_s = now;
    for (int i = 0; i < r->count && r->dead < 0; i++)
        if (is_gone(r, i)) r->dead = i;
    if (r->dead < 0) return CN_OK;
    cn_ranks_describe(r, r->dead, who);
    return cn_fail(r->ctx, CN_EIO, "%s ended; the run ends with it", who);
}

bool cn_ranks_reports(const cn_ranks *r)
{
    for (int i = 0; r && i < r->rank; i++)
        if (!is_gone(r, i)) return false;
    if (!r || r->dead < 0 || !r->reporter) return true;
    /* The first one may have reported and ended before this one looked around. */
    int nobody = 0;
    __atomic_compare_exchange_n(r->reporter, &nobody, r->rank + 1, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
    return __atomic_load_n(r->reporter, __ATOMIC_SEQ_CST) == r->rank + 1;
}

bool cn_ranks_lost(const cn_ranks *r)
{
    return r && r->dead >= 0;
}

int cn_ranks_rank(const cn_ranks *r)
{
    return r ? r->rank : 0;
}

int cn_ranks_count(const cn_ranks *r)
{
    return r ? r->count : 1;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void pause_after(int tries)
{
    if (tries > SPINS) nanosleep(&(struct timespec){0, 100000}, NULL);
}

static cn_status wait_for(cn_ranks *r, MPI_Request *request, const char *what)
{
    int done = 0;
    for (int tries = 0;; tries++) {
        CN_TRY(check(r, MPI_Test(request, &done, MPI_STATUS_IGNORE), what));
        if (done) return CN_OK;
        CN_TRY(find_local_ranks(r));
        pause_after(tries);
    }
}

/* Takes the finished ones out of the list. */
cn_status cn_ranks_advance(cn_ranks *r)
{
    int kept = 0;
    if (!r) return CN_OK;
    for (int i = 0; i < r->n_flight; i++) {
        int done = 0;
        CN_TRY(check(r, MPI_Test(&r->flight[i], &done, MPI_STATUS_IGNORE), "exchange weights"));
        if (done) {
            r->flight_bytes -= r->bytes[i];
            continue;
        }
        r->flight[kept] = r->flight[i];
        r->bytes[kept++] = r->bytes[i];
    }
    r->n_flight = kept;
    return find_local_ranks(r);
}

/* Until at most so much is on its way. */
static cn_status settle(cn_ranks *r, int most, size_t most_bytes)
{
    for (int tries = 0; r->n_flight > most || (r->n_flight && r->flight_bytes > most_bytes);
         tries++) {
        CN_TRY(cn_ranks_advance(r));
        pause_after(tries);
    }
    return CN_OK;
}

cn_status cn_ranks_finish(cn_ranks *r)
{
    return r ? settle(r, 0, 0) : CN_OK;
}

/* --- exchanges -------------------------------------------------------------------------------- */

cn_status cn_ranks_sum(cn_ranks *r, double *values, int n)
{
    MPI_Request request;
    if (!r) return CN_OK;
    CN_TRY(check(
        r, MPI_Iallreduce(MPI_IN_PLACE, values, n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &request),
        "add values"));
    return wait_for(r, &request, "add values");
}

cn_status cn_ranks_agree(cn_ranks *r, cn_status mine)
{
    int first = mine == CN_OK ? INT_MAX : cn_ranks_rank(r);
    MPI_Request request;
    if (!r || r->dead >= 0) return mine;
    CN_TRY(check(
        r, MPI_Iallreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD, &request),
        "agree"));
    CN_TRY(wait_for(r, &request, "agree"));
    r->agreed_failure = first != INT_MAX;
    if (first == INT_MAX || first == r->rank) return mine;
    return cn_fail(r->ctx, CN_ECANCELLED, "%s", ""); /* told by that rank */
}

static void enter(cn_ranks *r, MPI_Request request, size_t bytes)
{
    r->flight[r->n_flight] = request;
    r->bytes[r->n_flight++] = bytes;
    r->flight_bytes += bytes;
}

cn_status cn_ranks_begin_sum(cn_ranks *r, float *x, int64_t n, int owner)
{
    for (int64_t at = 0; r && at < n; at += CHUNK) {
        const int64_t k = CN_MIN(CHUNK, n - at);
        MPI_Request request;
        CN_TRY(settle(r, MAX_FLIGHT - 1, CN_RANKS_FLIGHT_BYTES));
        const bool mine = r->rank == owner;
        CN_TRY(check(r,
                     MPI_Ireduce(mine ? MPI_IN_PLACE : x + at, mine ? x + at : NULL, (int)k,
                                 MPI_FLOAT, MPI_SUM, owner, MPI_COMM_WORLD, &request),
                     "add gradients"));
        enter(r, request, (size_t)k * sizeof *x);
    }
    return CN_OK;
}

cn_status cn_ranks_begin_copy(cn_ranks *r, void *x, size_t bytes, int owner)
{
    for (size_t at = 0; r && at < bytes; at += CHUNK) {
        const size_t k = CN_MIN((size_t)CHUNK, bytes - at);
        MPI_Request request;
        CN_TRY(settle(r, MAX_FLIGHT - 1, CN_RANKS_FLIGHT_BYTES));
        CN_TRY(check(r,
                     MPI_Ibcast((char *)x + at, (int)k, MPI_BYTE, owner, MPI_COMM_WORLD, &request),
                     "copy weights"));
        enter(r, request, k);
    }
    return CN_OK;
}

/* --- beginning and end ------------------------------------------------------------------------ */

/* MPI_Init, with the handlers of stop_signals as they were: hwloc looks for OpenCL devices, and
 * LLVM in PoCL's then sets handlers of its own. */
static int init_mpi(void)
{
    struct sigaction before[CN_COUNT(stop_signals)];
    int provided = 0;
    for (size_t i = 0; i < CN_COUNT(stop_signals); i++)
        sigaction(stop_signals[i], NULL, &before[i]);
    const int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    for (size_t i = 0; i < CN_COUNT(stop_signals); i++)
        sigaction(stop_signals[i], &before[i], NULL);
    return code;
}

static cn_status join(cn_ranks *r)
{
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &r->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &r->count);
    r->peers = cn_alloc0(r->ctx, (size_t)r->count * sizeof *r->peers);
    if (!r->peers) return CN_ENOMEM;
    peer me = {.pid = getpid()};
    if (gethostname(me.host, sizeof me.host - 1) != 0) me.host[0] = 0;
    return check(
        r, MPI_Allgather(&me, sizeof me, MPI_BYTE, r->peers, sizeof me, MPI_BYTE, MPI_COMM_WORLD),
        "find the other processes");
}

/* One number that the ranks of this machine share; its first rank has the memory. */
static cn_status share_reporter(cn_ranks *r)
{
    MPI_Comm here;
    MPI_Aint bytes = 0;
    int first = 0, unit = 0;
    int code =
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, r->rank, MPI_INFO_NULL, &here);
    if (code != MPI_SUCCESS) return check(r, code, "find this machine's ranks");
    MPI_Comm_rank(here, &first);
    code = MPI_Win_allocate_shared(first ? 0 : (MPI_Aint)sizeof *r->reporter, sizeof *r->reporter,
                                   MPI_INFO_NULL, here, &r->reporter, &r->window);
    if (code == MPI_SUCCESS) code = MPI_Win_shared_query(r->window, 0, &bytes, &unit, &r->reporter);
    if (code == MPI_SUCCESS && !first) *r->reporter = 0;
    if (code == MPI_SUCCESS) code = MPI_Barrier(here);
    MPI_Comm_free(&here);
    return check(r, code, "share memory");
}

cn_status cn_ranks_open(cn_ctx *ctx, cn_ranks **out)
{
    int before = 0;
    MPI_Initialized(&before);
    if (before) return cn_fail(ctx, CN_EINVAL, "one run with several processes per program");
    cn_ranks *r = cn_alloc0(ctx, sizeof *r);
    if (!r) return CN_ENOMEM;
    *r = (cn_ranks){.ctx = ctx, .dead = -1, .count = 1, .window = MPI_WIN_NULL};
    cn_status s = check(r, init_mpi(), "begin");
    if (s == CN_OK) s = join(r);
    if (s == CN_OK) s = share_reporter(r);
    if (s != CN_OK) {
        cn_ranks_close(r, false);
        return s;
    }
    *out = r;
    return CN_OK;
}

void cn_ranks_close(cn_ranks *r, bool ok)
{
    if (!r) return;
    if ((ok || r->agreed_failure) && r->dead < 0) {
        if (r->window != MPI_WIN_NULL) MPI_Win_free(&r->window);
        MPI_Finalize();
    }
    cn_free(r->peers);
    cn_free(r);
}
