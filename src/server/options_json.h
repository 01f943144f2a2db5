/* SPDX-License-Identifier: Apache-2.0 */
/* options_json.h - the library's tables of options as members of JSON objects: read by the rules of
 * the command line, described as JSON Schema. A member's name is the option's with '_' for '-'. */
#ifndef CN_SERVER_OPTIONS_JSON_H
#define CN_SERVER_OPTIONS_JSON_H

#include "controlnet.h"

#include <jansson.h>

enum { WHY_BYTES = 4096 };

/* A table of which clients may set rows: none that name files, none about output and machine. */
typedef struct options_part {
    const cn_option *rows;
    void *target;
    const char *prefix;       /* left out of members' names, "control-"; NULL */
    const char *const * not ; /* rows that aren't taken either, NULL at the end; NULL */
} options_part;

/* A member that no table has. */
typedef struct options_extra {
    const char *name;
    const char *schema; /* JSON Schema of the member */
} options_extra;

/* Presets, then what the object's members say. False with what is wrong in `why`: a member that
 * neither the part nor `extra` (NULL behind the last) has, a value of the wrong type or beyond its
 * range. Texts stay the object's. */
bool options_from_json(cn_ctx *ctx, const options_part *part, const options_extra *extra,
                       const json_t *object, char why[WHY_BYTES]);
/* {"type": "object", "properties": ...}; required: a member's name, NULL: none. */
json_t *options_schema(const options_part *part, const options_extra *extra, const char *required);

/* Members of other kinds; false with `why`, and `otherwise` where the member is absent or null. */
bool json_whole(const json_t *object, const char *name, int64_t least, int64_t most,
                int64_t otherwise, int64_t *out, char why[WHY_BYTES]);
bool json_text(const json_t *object, const char *name, const char *otherwise, const char **out,
               char why[WHY_BYTES]);

#endif
