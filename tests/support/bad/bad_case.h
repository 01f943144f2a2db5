/* SPDX-License-Identifier: Apache-2.0 */
/* bad_case.h - controlnet run on something bad, for tests/e2e/bad*.c alone.
 *
 * A case expects: the exit status (1, or 2 for wrong usage), one line that begins with "controlnet"
 * on stderr and nothing else but progress, the words in that line that name what is wrong, and a
 * work folder with the same files as before, to the byte. Where a command writes several files and
 * its disk fills up, whole ones may be there but no temporary one.
 */
#ifndef TEST_BAD_CASE_H
#define TEST_BAD_CASE_H

#include "../report.h"

#include "base/base.h"

#include <limits.h>
#include <sys/resource.h>

enum { MAX_ARGS = 24 };

extern cn_ctx *ctx;
extern test_report report;
extern char program[PATH_MAX], root[64]; /* controlnet; the work folder */

typedef struct bad_case {
    const char *name;
    int status;
    const char *words[3];       /* all in the line of the error */
    const char *args[MAX_ARGS]; /* behind the program's name */
    rlim_t file_bytes;          /* > 0: no file may grow beyond */
    const char *output;         /* stdout; NULL: /dev/null */
    bool may_write;             /* whole files may be left */
} bad_case;

/* Finds the program, makes context and work folder. argv[1]: the program, where it is given. */
bool bad_open(int argc, char **argv);
/* Removes the folder and says how it went: the exit status. */
int bad_close(void);

/* A path in the work folder. Each is made once and stays where it is. */
const char *in_root(const char *name);
/* Ends the program where something that a case needs can't be made. */
void must(bool ok, const char *what);
/* Files in the work folder, by their names there. */
void put(const char *name, const void *bytes, size_t n);
void put_text(const char *name, const char *text);
/* The first part/of of file `from` as `to`. */
void put_part(const char *to, const char *from, size_t part, size_t of);
void put_safetensors(const char *name, uint64_t header_bytes, const char *header,
                     size_t data_bytes);
void put_png(const char *name, uint32_t width, uint32_t height);
void put_torch_zip(const char *name, const char *pickle, size_t n);
/* A black picture of TINY_PX. */
void put_black(const char *name);
/* Runs the case and says whether all of it came as expected. */
void check(const bad_case *c);
/* Like CHECK for something that must work: arguments up to a NULL. */
void prepare(const char *const *args);

#define SAYS(...)   \
    {               \
        __VA_ARGS__ \
    }
#define CHECK(title, code, says, ...) \
    check(&(const bad_case){.name = title, .status = code, .words = says, .args = {__VA_ARGS__}})

#define PREPARE(...) prepare((const char *const[]){__VA_ARGS__, NULL})

#endif
