/* SPDX-License-Identifier: Apache-2.0 */
/* pickle.c - the unpickler: a stack machine over protocols 0 to 5, without imports and calls.
 *
 * Every opcode reads at least one byte of the pickle and makes at most one object, so work is
 * bounded by the pickle's length; MAX_BYTES bounds the tree. Nothing here recurses.
 */
#include "io/pickle_internal.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 1 << 16, MAX_BYTES = 1 << 29, MAX_MEMO = 1 << 23 };

cn_status cn_pickle_bad(cn_pickle *v, const char *what)
{
    return cn_fail(v->ctx, CN_EFORMAT, "damaged pickle: %s", what);
}

void *cn_pickle_alloc(cn_pickle *v, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    if (n > v->free_bytes) {
        size_t bytes = CN_MAX(n, (size_t)BLOCK_BYTES) + 64;
        if (bytes > MAX_BYTES - v->total_bytes) {
            (void)cn_fail(v->ctx, CN_ENOMEM, "pickle: its objects need more than %d MB",
                          MAX_BYTES >> 20);
            return NULL;
        }
        pickle_block *b = cn_alloc0(v->ctx, bytes);
        if (!b) return NULL;
        b->next = v->blocks;
        v->blocks = b;
        v->total_bytes += bytes;
        v->free_at = (unsigned char *)b + 64;
        v->free_bytes = bytes - 64;
    }
    void *p = v->free_at;
    v->free_at += n;
    v->free_bytes -= n;
    return p;
}

cn_pickle_obj *cn_pickle_new(cn_pickle *v, cn_pickle_kind kind)
{
    cn_pickle_obj *o = cn_pickle_alloc(v, sizeof *o);
    if (o) o->kind = kind;
    return o;
}

cn_status cn_pickle_append(cn_pickle *v, cn_pickle_obj *o, cn_pickle_obj *item)
{
    if (o->n == o->cap) {
        size_t cap = o->cap ? 2 * (size_t)o->cap : 4;
        cn_pickle_obj **items = cn_pickle_alloc(v, cap * sizeof *items);
        if (!items) return CN_ENOMEM;
        if (o->n) memcpy(items, o->u.items, o->n * sizeof *items);
        o->u.items = items;
        o->cap = (uint32_t)cap;
    }
    o->u.items[o->n++] = item;
    return CN_OK;
}

static cn_status push(cn_pickle *v, cn_pickle_obj *o)
{
    pickle_stack *s = &v->stack;
    if (!o) return CN_ENOMEM;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 1024;
        void **at = cn_regrow(v->ctx, s->at, s->n * sizeof *at, cap * sizeof *at);
        if (!at) return CN_ENOMEM;
        s->at = at;
        s->cap = cap;
    }
    s->at[s->n++] = o;
    return CN_OK;
}

static cn_status push_int(cn_pickle *v, cn_pickle_kind kind, int64_t i)
{
    cn_pickle_obj *o = cn_pickle_new(v, kind);
    if (o) o->u.i = i;
    return push(v, o);
}

static cn_status push_float(cn_pickle *v, double f)
{
    cn_pickle_obj *o = cn_pickle_new(v, CN_PK_FLOAT);
    if (o) o->u.f = f;
    return push(v, o);
}

/* Pops may not reach below the last mark. */
static cn_status pop(cn_pickle *v, cn_pickle_obj **out)
{
    size_t floor = v->mark_count ? v->marks[v->mark_count - 1] : 0;
    if (v->stack.n <= floor) return cn_pickle_bad(v, "its stack runs empty");
    *out = v->stack.at[--v->stack.n];
    return CN_OK;
}

static cn_status top(cn_pickle *v, cn_pickle_obj **out)
{
    CN_TRY(pop(v, out));
    v->stack.n++;
    return CN_OK;
}

static cn_status push_mark(cn_pickle *v)
{
    if (v->mark_count == v->mark_cap) {
        size_t cap = v->mark_cap ? 2 * v->mark_cap : 256;
        size_t *marks =
            cn_regrow(v->ctx, v->marks, v->mark_count * sizeof *marks, cap * sizeof *marks);
        if (!marks) return CN_ENOMEM;
        v->marks = marks;
        v->mark_cap = cap;
    }
    v->marks[v->mark_count++] = v->stack.n;
    return CN_OK;
}

/* Takes everything above the last mark: *items stays valid until the next push. */
static cn_status pop_mark(cn_pickle *v, cn_pickle_obj ***items, size_t *n)
{
    if (v->mark_count == 0) return cn_pickle_bad(v, "it closes what it never opened");
    size_t at = v->marks[--v->mark_count];
    *items = v->stack.at ? (cn_pickle_obj **)(void *)(v->stack.at + at) : NULL;
    *n = v->stack.n - at;
    v->stack.n = at;
    return CN_OK;
}

static cn_status take(cn_pickle *v, uint64_t n, const unsigned char **out)
{
    if (n > (uint64_t)(v->end - v->p)) return cn_pickle_bad(v, "it ends in the middle");
    *out = v->p;
    v->p += n;
    return CN_OK;
}

static cn_status take_le(cn_pickle *v, int n, uint64_t *out)
{
    const unsigned char *p = NULL;
    uint64_t x = 0;
    CN_TRY(take(v, (uint64_t)n, &p));
    for (int i = n - 1; i >= 0; i--) x = x << 8 | p[i];
    *out = x;
    return CN_OK;
}

/* Text up to a newline, which is passed over. */
static cn_status take_line(cn_pickle *v, const char **s, size_t *n)
{
    const unsigned char *nl = memchr(v->p, '\n', (size_t)(v->end - v->p));
    if (!nl) return cn_pickle_bad(v, "it ends in the middle");
    *s = (const char *)v->p;
    *n = (size_t)(nl - v->p);
    v->p = nl + 1;
    return CN_OK;
}

/* A number in text (protocol 0): at most 30 characters. */
static cn_status next_pass_number(cn_pickle *v, char text[32])
{
    const char *s = NULL;
    size_t n = 0;
    CN_TRY(take_line(v, &s, &n));
    if (n > 30) return cn_pickle_bad(v, "a number is too long");
    memcpy(text, s, n);
    text[n] = 0;
    return CN_OK;
}

static cn_status push_str(cn_pickle *v, const char *s, size_t n)
{
    cn_pickle_obj *o = cn_pickle_new(v, CN_PK_STR);
    if (o) {
        o->u.s = s;
        o->n = n;
    }
    return push(v, o);
}

/* A string (kind CN_PK_STR) or bytes (CN_PK_INERT) behind a length of `width` bytes. */
static cn_status counted(cn_pickle *v, int width, cn_pickle_kind kind)
{
    uint64_t n = 0;
    const unsigned char *p = NULL;
    CN_TRY(take_le(v, width, &n));
    CN_TRY(take(v, n, &p));
    if (kind == CN_PK_STR) return push_str(v, (const char *)p, (size_t)n);
    return push(v, cn_pickle_new(v, kind));
}

/* A two's complement integer; beyond 64 bits (a random seed, say) it has no use here. */
static cn_status long_int(cn_pickle *v, int width)
{
    uint64_t n = 0, x = 0;
    const unsigned char *p = NULL;
    CN_TRY(take_le(v, width, &n));
    CN_TRY(take(v, n, &p));
    if (n > 8) return push(v, cn_pickle_new(v, CN_PK_INERT));
    if (n && p[n - 1] & 0x80) x = ~(uint64_t)0;
    for (uint64_t i = n; i-- > 0;) x = x << 8 | p[i];
    return push_int(v, CN_PK_INT, (int64_t)x);
}

static cn_status binary_float(cn_pickle *v)
{
    const unsigned char *p = NULL;
    uint64_t x = 0;
    double f;
    CN_TRY(take(v, 8, &p));
    for (int i = 0; i < 8; i++) x = x << 8 | p[i];
    memcpy(&f, &x, sizeof f);
    return push_float(v, f);
}

static cn_status text_value(cn_pickle *v, int op)
{
    char text[32] = "";
    const char *s = NULL;
    size_t n = 0;
    if (op == 'V' || op == 'S') {
        CN_TRY(take_line(v, &s, &n));
        bool quoted = op == 'S' && n >= 2 && (s[0] == '\'' || s[0] == '"') && s[n - 1] == s[0];
        return quoted ? push_str(v, s + 1, n - 2) : push_str(v, s, n);
    }
    CN_TRY(next_pass_number(v, text));
    if (op == 'F') return push_float(v, strtod(text, NULL));
    if (op == 'I' && (!strcmp(text, "00") || !strcmp(text, "01")))
        return push_int(v, CN_PK_BOOL, text[1] == '1');
    return push_int(v, CN_PK_INT, strtoll(text, NULL, 10));
}

static cn_status scalar_op(cn_pickle *v, int op, bool *known)
{
    uint64_t x = 0;
    switch (op) {
    case 'N': return push(v, cn_pickle_new(v, CN_PK_NONE));
    case 0x88: return push_int(v, CN_PK_BOOL, 1);
    case 0x89: return push_int(v, CN_PK_BOOL, 0);
    case 'K': CN_TRY(take_le(v, 1, &x)); return push_int(v, CN_PK_INT, (int64_t)x);
    case 'M': CN_TRY(take_le(v, 2, &x)); return push_int(v, CN_PK_INT, (int64_t)x);
    case 'J': CN_TRY(take_le(v, 4, &x)); return push_int(v, CN_PK_INT, (int32_t)(uint32_t)x);
    case 0x8a: return long_int(v, 1);
    case 0x8b: return long_int(v, 4);
    case 'G': return binary_float(v);
    case 'X': return counted(v, 4, CN_PK_STR);
    case 0x8c: return counted(v, 1, CN_PK_STR);
    case 0x8d: return counted(v, 8, CN_PK_STR);
    case 'U': return counted(v, 1, CN_PK_STR); /* Python 2's str */
    case 'T': return counted(v, 4, CN_PK_STR);
    case 'C': return counted(v, 1, CN_PK_INERT);
    case 'B': return counted(v, 4, CN_PK_INERT);
    case 0x8e:
    case 0x96: return counted(v, 8, CN_PK_INERT);
    case 'V':
    case 'S':
    case 'I':
    case 'L':
    case 'F': return text_value(v, op);
    default: *known = false; return CN_OK;
    }
}

static cn_status add_items(cn_pickle *v, cn_pickle_obj *o, cn_pickle_obj **items, size_t n)
{
    for (size_t i = 0; i < n; i++) CN_TRY(cn_pickle_append(v, o, items[i]));
    return CN_OK;
}

static cn_status make_container(cn_pickle *v, cn_pickle_kind kind, cn_pickle_obj **items, size_t n)
{
    cn_pickle_obj *o = cn_pickle_new(v, kind);
    if (!o) return CN_ENOMEM;
    if (kind == CN_PK_DICT && n % 2) return cn_pickle_bad(v, "a dict has a key without a value");
    if (kind != CN_PK_INERT) CN_TRY(add_items(v, o, items, n));
    return push(v, o);
}

/* The last n objects as a tuple. */
static cn_status short_tuple(cn_pickle *v, size_t n)
{
    cn_pickle_obj *items[3] = {NULL, NULL, NULL};
    for (size_t i = n; i-- > 0;) CN_TRY(pop(v, &items[i]));
    return make_container(v, CN_PK_TUPLE, items, n);
}

/* Adds items to the container beneath them; what lies inert there (a set, a numpy array) takes
 * any. */
static cn_status extend(cn_pickle *v, cn_pickle_kind kind, cn_pickle_obj **items, size_t n)
{
    cn_pickle_obj *o = NULL;
    CN_TRY(top(v, &o));
    if (o->kind == CN_PK_INERT) return CN_OK;
    if (o->kind != kind || (kind == CN_PK_DICT && n % 2))
        return cn_pickle_bad(v, "items are added to something that isn't their container");
    return add_items(v, o, items, n);
}

static cn_status container_op(cn_pickle *v, int op, bool *known)
{
    cn_pickle_obj **items = NULL, *few[2] = {NULL, NULL};
    size_t n = 0;
    switch (op) {
    case '(': return push_mark(v);
    case '1': return pop_mark(v, &items, &n);
    case ')': return make_container(v, CN_PK_TUPLE, NULL, 0);
    case ']': return make_container(v, CN_PK_LIST, NULL, 0);
    case '}': return make_container(v, CN_PK_DICT, NULL, 0);
    case 0x8f: return make_container(v, CN_PK_INERT, NULL, 0);
    case 't': CN_TRY(pop_mark(v, &items, &n)); return make_container(v, CN_PK_TUPLE, items, n);
    case 'l': CN_TRY(pop_mark(v, &items, &n)); return make_container(v, CN_PK_LIST, items, n);
    case 'd': CN_TRY(pop_mark(v, &items, &n)); return make_container(v, CN_PK_DICT, items, n);
    case 0x91: CN_TRY(pop_mark(v, &items, &n)); return make_container(v, CN_PK_INERT, items, n);
    case 0x85: return short_tuple(v, 1);
    case 0x86: return short_tuple(v, 2);
    case 0x87: return short_tuple(v, 3);
    case 'e': CN_TRY(pop_mark(v, &items, &n)); return extend(v, CN_PK_LIST, items, n);
    case 'u': CN_TRY(pop_mark(v, &items, &n)); return extend(v, CN_PK_DICT, items, n);
    case 0x90: CN_TRY(pop_mark(v, &items, &n)); return extend(v, CN_PK_INERT, items, n);
    case 'a': CN_TRY(pop(v, &few[0])); return extend(v, CN_PK_LIST, few, 1);
    case 's':
        CN_TRY(pop(v, &few[1]));
        CN_TRY(pop(v, &few[0]));
        return extend(v, CN_PK_DICT, few, 2);
    default: *known = false; return CN_OK;
    }
}

static cn_status memo_put(cn_pickle *v, uint64_t at)
{
    cn_pickle_obj *o = NULL;
    CN_TRY(top(v, &o));
    if (at >= MAX_MEMO) return cn_pickle_bad(v, "its memo is too large");
    if (at >= v->memo_cap) {
        size_t cap = CN_MAX(2 * v->memo_cap, CN_MAX((size_t)at + 1, (size_t)1024));
        cn_pickle_obj **memo =
            cn_regrow(v->ctx, v->memo, v->memo_cap * sizeof *memo, cap * sizeof *memo);
        if (!memo) return CN_ENOMEM;
        memset(memo + v->memo_cap, 0, (cap - v->memo_cap) * sizeof *memo);
        v->memo = memo;
        v->memo_cap = cap;
    }
    v->memo[at] = o;
    v->memo_next++;
    return CN_OK;
}

static cn_status memo_get(cn_pickle *v, uint64_t at)
{
    if (at >= v->memo_cap || !v->memo[at])
        return cn_pickle_bad(v, "it recalls what it never stored");
    return push(v, v->memo[at]);
}

static cn_status memo_op(cn_pickle *v, int op, bool *known)
{
    uint64_t at = 0;
    char text[32] = "";
    cn_pickle_obj *o = NULL;
    switch (op) {
    case 'q': CN_TRY(take_le(v, 1, &at)); return memo_put(v, at);
    case 'r': CN_TRY(take_le(v, 4, &at)); return memo_put(v, at);
    case 0x94: return memo_put(v, v->memo_next);
    case 'p': CN_TRY(next_pass_number(v, text)); return memo_put(v, strtoull(text, NULL, 10));
    case 'h': CN_TRY(take_le(v, 1, &at)); return memo_get(v, at);
    case 'j': CN_TRY(take_le(v, 4, &at)); return memo_get(v, at);
    case 'g': CN_TRY(next_pass_number(v, text)); return memo_get(v, strtoull(text, NULL, 10));
    case '0':
        /* Right above a mark, POP takes the mark. */
        if (v->mark_count && v->marks[v->mark_count - 1] == v->stack.n) {
            v->mark_count--;
            return CN_OK;
        }
        return pop(v, &o);
    case '2': CN_TRY(top(v, &o)); return push(v, o);
    default: *known = false; return CN_OK;
    }
}

static cn_status push_global(cn_pickle *v, cn_pickle_obj *module, cn_pickle_obj *name)
{
    cn_pickle_obj *o = cn_pickle_new(v, CN_PK_GLOBAL);
    if (!o) return CN_ENOMEM;
    if (module->kind != CN_PK_STR || name->kind != CN_PK_STR)
        return cn_pickle_bad(v, "a function's name isn't a string");
    CN_TRY(cn_pickle_append(v, o, module));
    CN_TRY(cn_pickle_append(v, o, name));
    return push(v, o);
}

/* "module\nname\n" in the pickle, as a global on the stack. */
static cn_status text_global(cn_pickle *v)
{
    const char *s = NULL;
    size_t n = 0;
    cn_pickle_obj *part[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        CN_TRY(take_line(v, &s, &n));
        CN_TRY(push_str(v, s, n));
        part[i] = v->stack.at[--v->stack.n];
    }
    return push_global(v, part[0], part[1]);
}

static cn_status call(cn_pickle *v, cn_pickle_obj *f, cn_pickle_obj *args)
{
    cn_pickle_obj *result = NULL;
    CN_TRY(cn_pickle_call(v, f, args, &result));
    return push(v, result);
}

/* A torch.nn.ParameterDict, which old textual inversion files hold, keeps its tensors under
 * "_parameters" of its state, among the first of about twenty attributes. That pair alone is taken,
 * so that the work stays linear. */
static cn_status unwrap_parameters(cn_pickle *v, cn_pickle_obj *o, const cn_pickle_obj *state)
{
    enum { ATTRIBUTES = 32 };
    for (size_t i = 0; i + 1 < CN_MIN(state->n, (size_t)2 * ATTRIBUTES); i += 2)
        if (cn_pickle_is_str(state->u.items[i], "_parameters"))
            return add_items(v, o, &state->u.items[i], 2);
    return CN_OK;
}

/* BUILD gives an object its state. What is imitated here needs none but for a dict of
 * parameters. */
static cn_status build(cn_pickle *v)
{
    cn_pickle_obj *state = NULL, *o = NULL;
    CN_TRY(pop(v, &state));
    CN_TRY(top(v, &o));
    if (o->kind == CN_PK_GLOBAL) return cn_pickle_refuse(v, o);
    if (o->kind == CN_PK_DICT && o->n == 0 && state->kind == CN_PK_DICT)
        return unwrap_parameters(v, o, state);
    if (o->kind == CN_PK_DICT || o->kind == CN_PK_INERT || o->kind == CN_PK_TENSOR) return CN_OK;
    return cn_pickle_bad(v, "state is given to something that has none");
}

static cn_status call_op(cn_pickle *v, int op, bool *known)
{
    cn_pickle_obj *a = NULL, *b = NULL, **items = NULL;
    size_t n = 0;
    switch (op) {
    case 'c': return text_global(v);
    case 0x93: /* STACK_GLOBAL */
        CN_TRY(pop(v, &b));
        CN_TRY(pop(v, &a));
        return push_global(v, a, b);
    case 0x92:
        CN_TRY(pop(v, &a)); /* NEWOBJ_EX: keyword arguments lie above */
    /* fall through */
    case 'R':
    case 0x81: /* NEWOBJ */
        CN_TRY(pop(v, &b));
        CN_TRY(pop(v, &a));
        return call(v, a, b);
    case 'i': /* INST: a call with everything above the mark */
        CN_TRY(text_global(v));
        CN_TRY(pop(v, &a));
        return cn_pickle_refuse(v, a);
    case 'o': /* OBJ */
        CN_TRY(pop_mark(v, &items, &n));
        if (n == 0) return cn_pickle_bad(v, "a call without a function");
        return cn_pickle_refuse(v, items[0]);
    case 'b': return build(v);
    case 'Q':
        CN_TRY(pop(v, &a));
        CN_TRY(cn_pickle_storage_of(v, a, &b));
        return push(v, b);
    default: *known = false; return CN_OK;
    }
}

static cn_status step(cn_pickle *v, int op)
{
    cn_status (*const groups[])(cn_pickle *, int, bool *) = {scalar_op, container_op, memo_op,
                                                             call_op};
    for (size_t i = 0; i < CN_COUNT(groups); i++) {
        bool known = true;
        cn_status s = groups[i](v, op, &known);
        if (known) return s;
    }
    return cn_fail(v->ctx, CN_EFORMAT,
                   "damaged pickle: opcode 0x%02x isn't one that torch.save writes", (unsigned)op);
}

static cn_status run(cn_pickle *v)
{
    const unsigned char *p = NULL;
    uint64_t skip = 0;
    for (;;) {
        CN_TRY(take(v, 1, &p));
        if (*p == '.') return pop(v, &v->root);
        if (*p == 0x80) /* PROTO */
            CN_TRY(take_le(v, 1, &skip));
        else if (*p == 0x95) /* FRAME */
            CN_TRY(take_le(v, 8, &skip));
        else
            CN_TRY(step(v, *p));
    }
}

cn_status cn_pickle_parse(cn_ctx *ctx, const unsigned char *bytes, size_t n, cn_pickle **out,
                          size_t *used)
{
    cn_pickle *v = cn_alloc0(ctx, sizeof *v);
    if (!v) return CN_ENOMEM;
    v->ctx = ctx;
    v->p = bytes;
    v->end = bytes + n;
    cn_status s = run(v);
    if (s != CN_OK) {
        cn_pickle_destroy(v);
        return s;
    }
    if (used) *used = (size_t)(v->p - bytes);
    *out = v;
    return CN_OK;
}

const cn_pickle_obj *cn_pickle_root(const cn_pickle *p)
{
    return p->root;
}

const cn_pickle_storage *cn_pickle_storages(const cn_pickle *p)
{
    return p->storages;
}

void cn_pickle_destroy(cn_pickle *p)
{
    if (!p) return;
    while (p->blocks) {
        pickle_block *next = p->blocks->next;
        cn_free(p->blocks);
        p->blocks = next;
    }
    cn_free(p->stack.at);
    cn_free(p->marks);
    cn_free(p->memo);
    cn_free(p);
}
