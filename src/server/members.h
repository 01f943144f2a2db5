/* SPDX-License-Identifier: Apache-2.0 */
/* members.h - requests of other programs' interfaces to the server's own, by tables of members that
 * also describe them. */
#ifndef CN_SERVER_MEMBERS_H
#define CN_SERVER_MEMBERS_H

#include "server/options_json.h"

typedef enum member_type {
    MEMBER_WHOLE,
    MEMBER_NUMBER,
    MEMBER_BOOL,
    MEMBER_TEXT,
    MEMBER_PICTURE, /* a text too */
    MEMBER_LIST,
    MEMBER_OBJECT,
    MEMBER_ANY
} member_type;

/* A member of another interface. */
typedef struct member {
    const char *name;
    member_type type;
    double min, max; /* of numbers, where max is above min */
    /* What it becomes: a member of the server's own request that takes the same values; NULL: the
     * route's own code looks at it, or nothing. */
    const char *to;
    const char *help; /* NULL: none */
} member;

/* Whether every member that the table knows has its type and range; null is as absent. Others are
 * let through where `others`. */
bool members_check(const member *table, const json_t *object, bool others, char why[WHY_BYTES]);
/* Copies those with `to` into `out`. */
void members_copy(const member *table, const json_t *object, json_t *out);
/* JSON Schema of such objects. */
json_t *members_schema(const member *table, const char *required, bool others);

/* A number, `otherwise` where it is absent or null. */
double member_number(const json_t *object, const char *name, double otherwise);
/* A text, NULL where it is absent, null or "". */
const char *member_text(const json_t *object, const char *name);
/* Whether something is asked for: a value that isn't absent, null, false, 0, "", [] or {}. */
bool member_is_set(const json_t *object, const char *name);

#endif
