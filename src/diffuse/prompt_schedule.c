/* SPDX-License-Identifier: Apache-2.0 */
/* prompt_schedule.c - prompts that change while sampling: [from:to:when], [to:when], [from::when],
 * [a|b|...].
 *
 * The grammar is webui's (prompt_parser.py, schedule_parser). `when` with a point is a part of the
 * steps, without one a step. Brackets that fit no rule are text where they stand outside of others;
 * a bare "|" or a backslash at the end fits nowhere, and then the prompt has one stage.
 */
#include "diffuse/prompt.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 100 };

/* Text at one step, or (steps != NULL) the steps at which something changes. */
typedef struct reader {
    int steps_total, step; /* steps count from 1 here */
    int earlier;           /* steps of a pass before this one */
    bool *changes;         /* [steps_total + 1]; NULL: the text is wanted */
} reader;

static const char *read_list(const reader *r, const char *s, int depth, cn_str *out);

static void add(const reader *r, cn_str *out, const char *s, size_t n)
{
    if (!r->changes) cn_str_add(out, s, n);
}

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t\n\r\f\v");
}

/* "NUMBER]" with blanks around the number; NULL for anything else. *when: the step. */
static const char *read_when(const reader *r, const char *s, int *when)
{
    s = skip_blanks(s);
    const char *from = s;
    if (*s == '+' || *s == '-') s++;
    size_t whole = strspn(s, "0123456789"), point = s[whole] == '.' ? 1 : 0;
    size_t part = point ? strspn(s + whole + 1, "0123456789") : 0;
    if (!whole && !part) return NULL;
    s += whole + point + part;
    if (*s == 'e' || *s == 'E') {
        const char *e = s + 1 + (s[1] == '+' || s[1] == '-');
        size_t digits = strspn(e, "0123456789");
        if (digits) s = e + digits;
    }
    double v = strtod(from, NULL);
    v = point ? (v - (r->earlier ? 1 : 0)) * r->steps_total : v - r->earlier;
    *when = v >= r->steps_total ? r->steps_total : v <= 0 ? 0 : (int)v;
    s = skip_blanks(s);
    return *s == ']' ? s + 1 : NULL;
}

/* The rest of "[a:b:when]" or "[b:when]" behind the first colon; `first` is what stands before
 * it. */
static const char *read_scheduled(const reader *r, const char *s, int depth, const cn_str *first,
                                  cn_str *out)
{
    int when = 0;
    cn_str second = {0};
    const char *end = read_when(r, s, &when);
    bool single = end != NULL;
    if (!single && (s = read_list(r, s, depth, &second)) && *s == ':')
        end = read_when(r, s + 1, &when);
    if (end && r->changes && when >= 1) r->changes[when] = true;
    if (end) {
        const cn_str *before = single ? NULL : first, *after = single ? first : &second;
        const cn_str *now = r->step <= when ? before : after;
        if (now) add(r, out, now->data ? now->data : "", now->len);
    }
    cn_str_free(&second);
    return end;
}

/* The rest of "[a|b|...]" at its first bar. Every part is read once, nested ones too, so that the
 * work stays linear; `cuts` are where the parts end in `all`. */
static const char *read_alternate(const reader *r, const char *s, int depth, const cn_str *first,
                                  cn_str *out)
{
    cn_str all = {0}, cuts = {0};
    cn_str_add(&all, first->data ? first->data : "", first->len);
    cn_str_add(&cuts, (const char *)&all.len, sizeof all.len);
    while (s && *s == '|') {
        s = read_list(r, s + 1, depth, &all);
        cn_str_add(&cuts, (const char *)&all.len, sizeof all.len);
    }
    const char *end = s && *s == ']' ? s + 1 : NULL;
    if (all.failed || cuts.failed) {
        out->failed = true;
    } else if (end && r->changes) {
        for (int i = 1; i <= r->steps_total; i++) r->changes[i] = true;
    } else if (end) {
        size_t n = cuts.len / sizeof all.len, wanted = (size_t)(r->step - 1) % n, from = 0, to;
        if (wanted) memcpy(&from, cuts.data + (wanted - 1) * sizeof from, sizeof from);
        memcpy(&to, cuts.data + wanted * sizeof to, sizeof to);
        add(r, out, all.data + from, to - from);
    }
    cn_str_free(&all);
    cn_str_free(&cuts);
    return end;
}

/* At an opening bracket: what is behind its group, its text added to out; NULL when it fits no
 * rule. */
static const char *read_group(const reader *r, const char *s, int depth, cn_str *out)
{
    if (depth >= MAX_DEPTH) return NULL;
    char open = *s, close = open == '(' ? ')' : ']';
    cn_str first = {0};
    const char *end = NULL, *at = read_list(r, s + 1, depth + 1, &first);
    if (at && *at == close) {
        add(r, out, &open, 1);
        add(r, out, first.data ? first.data : "", first.len);
        add(r, out, &close, 1);
        end = at + 1;
    } else if (at && *at == ':' && open == '(') {
        cn_str second = {0};
        const char *last = read_list(r, at + 1, depth + 1, &second);
        if (last && *last == ')') {
            add(r, out, "(", 1);
            add(r, out, first.data ? first.data : "", first.len);
            add(r, out, ":", 1);
            add(r, out, second.data ? second.data : "", second.len);
            add(r, out, ")", 1);
            end = last + 1;
        }
        cn_str_free(&second);
    } else if (at && *at == ':') {
        end = read_scheduled(r, at + 1, depth + 1, &first, out);
    } else if (at && *at == '|') {
        end = read_alternate(r, at, depth + 1, &first, out);
    }
    cn_str_free(&first);
    return end;
}

/* Text and groups up to a character that only an outer rule can take; NULL when a group fits no
 * rule. */
static const char *read_list(const reader *r, const char *s, int depth, cn_str *out)
{
    while (*s && !strchr("]):|", *s)) {
        if (*s == '(' || *s == '[') {
            if (!(s = read_group(r, s, depth, out))) return NULL;
        } else {
            size_t n = *s == '\\' ? 2 : 1;
            if (*s == '\\' && (!s[1] || s[1] == '\n')) return NULL;
            add(r, out, s, n);
            s += n;
        }
    }
    return s;
}

/* The whole prompt; false when it doesn't parse. A bracket or colon that fits no rule is text
 * here. */
static bool read_all(const reader *r, const char *s, cn_str *out)
{
    while (*s) {
        const char *next = NULL;
        cn_str some = {0};
        if (*s == '(' || *s == '[') next = read_group(r, s, 0, &some);
        if (next) {
            add(r, out, some.data ? some.data : "", some.len);
        } else if (strchr("()[]:", *s)) {
            add(r, out, s, 1);
            next = s + 1;
        } else if (*s != '|' && !(*s == '\\' && (!s[1] || s[1] == '\n'))) {
            size_t n = *s == '\\' ? 2 : 1;
            add(r, out, s, n);
            next = s + n;
        }
        if (some.failed) out->failed = true;
        cn_str_free(&some);
        if (!next) return false;
        s = next;
    }
    return true;
}

void cn_prompt_stages_free(cn_prompt_stage *stages, int n)
{
    for (int i = 0; stages && i < n; i++) cn_free(stages[i].text);
    cn_free(stages);
}

static cn_status add_stage(cn_ctx *ctx, const char *text, int until, cn_prompt_stage *stages,
                           int *n)
{
    stages[*n].until = until;
    stages[*n].text = cn_strdup(ctx, text);
    return stages[*n].text ? ((*n)++, CN_OK) : CN_ENOMEM;
}

static cn_status add_stages(cn_ctx *ctx, const char *text, reader *r, bool parses,
                            cn_prompt_stage *stages, int *n)
{
    if (!parses) return add_stage(ctx, text, r->steps_total, stages, n);
    bool *changes = r->changes;
    r->changes = NULL;
    changes[r->steps_total] = true;
    for (r->step = 1; r->step <= r->steps_total; r->step++) {
        if (!changes[r->step]) continue;
        cn_str at = {0};
        cn_status s = CN_OK;
        read_all(r, text, &at);
        if (at.failed) s = cn_fail(ctx, CN_ENOMEM, "out of memory for the prompt");
        if (s == CN_OK) s = add_stage(ctx, at.data ? at.data : "", r->step, stages, n);
        cn_str_free(&at);
        if (s != CN_OK) return s;
    }
    return CN_OK;
}

cn_status cn_prompt_schedule(cn_ctx *ctx, const char *text, int steps, int earlier,
                             cn_prompt_stage **out, int *n)
{
    if (steps < 1) return cn_fail(ctx, CN_EINVAL, "%d steps: at least 1", steps);
    bool *changes = cn_alloc0(ctx, (size_t)steps + 1);
    cn_prompt_stage *stages = cn_alloc0(ctx, ((size_t)steps + 1) * sizeof *stages);
    int found = 0;
    cn_status s = changes && stages ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        reader r = {.steps_total = steps, .earlier = earlier, .changes = changes};
        cn_str unused = {0};
        bool parses = read_all(&r, text, &unused);
        cn_str_free(&unused);
        s = add_stages(ctx, text, &r, parses, stages, &found);
    }
    cn_free(changes);
    if (s != CN_OK) {
        cn_prompt_stages_free(stages, found);
        return s;
    }
    *out = stages;
    *n = found;
    return CN_OK;
}
