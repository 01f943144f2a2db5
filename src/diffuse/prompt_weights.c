/* SPDX-License-Identifier: Apache-2.0 */
/* prompt_weights.c - brackets and weights in a prompt, as webui's parse_prompt_attention reads
 * them.
 *
 * Round brackets multiply by 1.1 or by the weight before the closing one, square ones divide by
 * 1.1, a backslash takes a bracket's meaning away, brackets left open reach to the end. Pieces of
 * equal weight that stand side by side become one. As there, BREAK inside brackets is an ordinary
 * word, since the brackets multiply its mark as well.
 */
#include "diffuse/prompt.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

static const double ROUND = 1.1, SQUARE = 1 / 1.1, BREAK_WEIGHT = -1;

typedef struct parser {
    cn_ctx *ctx;
    cn_prompt_piece *list;
    int n, cap;
    int *round,
        *square; /* piece numbers at which open brackets began; as many as the text has bytes */
    int n_round, n_square;
    pcre2_code *separator;
    pcre2_match_data *match;
} parser;

void cn_prompt_pieces_free(cn_prompt_piece *pieces, int n)
{
    for (int i = 0; i < n; i++) cn_str_free(&pieces[i].text);
    cn_free(pieces);
}

bool cn_prompt_is_break(const cn_prompt_piece *p)
{
    return p->text.data && p->weight == BREAK_WEIGHT && !strcmp(p->text.data, "BREAK");
}

static cn_status push(parser *p, const char *text, size_t n, double weight)
{
    if (p->n == p->cap) {
        int cap = p->cap * 2 + 16;
        cn_prompt_piece *list =
            cn_regrow(p->ctx, p->list, (size_t)p->n * sizeof *list, (size_t)cap * sizeof *list);
        if (!list) return CN_ENOMEM;
        p->list = list;
        p->cap = cap;
    }
    cn_prompt_piece *piece = &p->list[p->n++];
    *piece = (cn_prompt_piece){.weight = weight};
    cn_str_add(&piece->text, text, n);
    return piece->text.failed ? cn_fail(p->ctx, CN_ENOMEM, "out of memory for the prompt") : CN_OK;
}

static void multiply(parser *p, int from, double factor)
{
    for (int i = from; i < p->n; i++) p->list[i].weight *= factor;
}

/* Plain text, cut at each BREAK that stands alone as a word; the white space around it goes. */
static cn_status push_text(parser *p, const char *text, size_t n)
{
    size_t at = 0;
    for (;;) {
        int rc = pcre2_match(p->separator, (PCRE2_SPTR)text, n, at, 0, p->match, NULL);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0)
            return cn_fail(p->ctx, CN_EINTERNAL, "PCRE2 can't search the prompt (error %d)", rc);
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(p->match);
        CN_TRY(push(p, text + at, span[0] - at, 1));
        CN_TRY(push(p, "BREAK", 5, BREAK_WEIGHT));
        at = span[1];
    }
    return push(p, text + at, n - at, 1);
}

/* ":", blanks, a number's characters, blanks, ")": its length, 0 for none; the number goes to
 * *weight. */
static cn_status weight_at(const parser *p, const char *s, size_t *length, double *weight)
{
    static const char blanks[] = " \t\n\r\f\v";
    *length = 0;
    if (s[0] != ':') return CN_OK;
    const char *from = s + 1 + strspn(s + 1, blanks), *number = from;
    if (*from == '+' || *from == '-') from++;
    size_t digits = strspn(from, ".0123456789");
    const char *to = from + digits, *close = to + strspn(to, blanks);
    if (!digits || *close != ')') return CN_OK;
    char *end;
    *weight = strtod(number, &end);
    *length = (size_t)(close + 1 - s);
    if (end != to)
        return cn_fail(p->ctx, CN_EINVAL, "prompt: the weight in \"%.*s\" is no number",
                       (int)CN_MIN(*length, (size_t)60), s);
    return CN_OK;
}

/* One token of the text at s: its length. */
static cn_status step(parser *p, const char *s, size_t *length)
{
    double weight = 1;
    *length = 1;
    if (*s == '\\') {
        *length = s[1] && strchr("()[]\\", s[1]) ? 2 : 1;
        return push(p, s + 1, *length - 1, 1);
    }
    if (*s == '(') {
        p->round[p->n_round++] = p->n;
        return CN_OK;
    }
    if (*s == '[') {
        p->square[p->n_square++] = p->n;
        return CN_OK;
    }
    size_t weighed;
    CN_TRY(weight_at(p, s, &weighed, &weight));
    if (weighed) {
        *length = weighed;
        if (!p->n_round) return push_text(p, s, weighed);
        multiply(p, p->round[--p->n_round], weight);
        return CN_OK;
    }
    if (*s == ')' && p->n_round) {
        multiply(p, p->round[--p->n_round], ROUND);
        return CN_OK;
    }
    if (*s == ']' && p->n_square) {
        multiply(p, p->square[--p->n_square], SQUARE);
        return CN_OK;
    }
    size_t plain = strcspn(s, "\\()[]:");
    *length = CN_MAX(plain, (size_t)1);
    return push_text(p, s, *length);
}

static void merge_equal(parser *p)
{
    int kept = 0;
    for (int i = 1; i < p->n; i++) {
        cn_prompt_piece *last = &p->list[kept];
        if (last->weight != p->list[i].weight) {
            p->list[++kept] = p->list[i];
            continue;
        }
        cn_str_add(&last->text, p->list[i].text.data ? p->list[i].text.data : "",
                   p->list[i].text.len);
        cn_str_free(&p->list[i].text);
    }
    p->n = kept + 1;
}

static cn_status parse(parser *p, const char *text)
{
    size_t length, n = strlen(text);
    int error;
    PCRE2_SIZE at;
    p->round = cn_alloc_array(p->ctx, n + 1, sizeof *p->round);
    p->square = cn_alloc_array(p->ctx, n + 1, sizeof *p->square);
    if (!p->round || !p->square) return CN_ENOMEM;
    p->separator =
        pcre2_compile((PCRE2_SPTR) "\\s*\\bBREAK\\b\\s*", PCRE2_ZERO_TERMINATED,
                      PCRE2_MATCH_INVALID_UTF | PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
    p->match = pcre2_match_data_create(1, NULL);
    if (!p->separator || !p->match) return cn_fail(p->ctx, CN_ENOMEM, "out of memory for PCRE2");
    for (const char *s = text; *s; s += length) CN_TRY(step(p, s, &length));
    while (p->n_round) multiply(p, p->round[--p->n_round], ROUND);
    while (p->n_square) multiply(p, p->square[--p->n_square], SQUARE);
    if (!p->n) CN_TRY(push(p, "", 0, 1));
    merge_equal(p);
    for (int i = 0; i < p->n; i++)
        if (p->list[i].text.failed)
            return cn_fail(p->ctx, CN_ENOMEM, "out of memory for the prompt");
    return CN_OK;
}

cn_status cn_prompt_weigh(cn_ctx *ctx, const char *text, cn_prompt_piece **out, int *n)
{
    parser p = {.ctx = ctx};
    cn_status s = parse(&p, text);
    pcre2_code_free(p.separator);
    pcre2_match_data_free(p.match);
    cn_free(p.round);
    cn_free(p.square);
    if (s != CN_OK) {
        cn_prompt_pieces_free(p.list, p.n);
        return s;
    }
    *out = p.list;
    *n = p.n;
    return CN_OK;
}
