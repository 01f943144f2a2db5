/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_shards.c - WebDataset: tar files whose members KEY.jpg, KEY.cond.png, KEY.txt make a
 * pair.
 *
 * KEY is a member's path up to the first dot of its name; members of one key stand together. Index:
 * three places (target, condition, caption), each a shard's number (20 bits above) and where the
 * member's headers begin. Shards are in the pattern's order, or sorted by name in a folder.
 */
#include "data/dataset_layouts.h"
#include "data/shard_index.h"
#include "io/json.h"
#include "io/listing.h"
#include "io/tar.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { PLACE_BITS = 44, MAX_SHARDS = 1 << 20, ENDINGS_BYTES = 256, KEY_BYTES = 2048 };

#define NO_PLACE UINT64_MAX

enum { TARGET, CONDITION, CAPTION, PARTS };

typedef struct shards {
    cn_str text; /* paths, each 0-terminated */
    uint64_t *offsets;
    int64_t n, cap;
    char endings[PARTS][ENDINGS_BYTES]; /* "jpg;png", without the dot between KEY and ending */
    char caption_key[128];              /* of a .json caption */
    bool alone;                         /* pictures without conditions, see cn_dataset_options */
} shards;

static const char *shard_path(const shards *s, uint64_t i)
{
    return s->text.data + s->offsets[i];
}

static const char *const tar_endings[] = {".tar", NULL};

/* --- which shards ----------------------------------------------------------------------------- */

/* Also a folder that can't be read: opening it says why. */
static bool holds_tar(const char *dir)
{
    bool found = false;
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    cn_status s = cn_dir_open(NULL, dir, &d);
    while (s == CN_OK && !found && (s = cn_dir_next(d, &e)) == CN_OK && e)
        found = e->d_name[0] != '.' && cn_has_ending(e->d_name, tar_endings);
    cn_dir_close(d);
    return found || s != CN_OK;
}

/* A pattern, a file, or a folder of .tar files. */
static bool detect(const char *dir)
{
    if (strchr(dir, '{') && !cn_dir_exists(dir)) return true;
    if (cn_has_ending(dir, tar_endings) && !cn_dir_exists(dir)) return true;
    return cn_dir_exists(dir) && holds_tar(dir);
}

bool cn_dataset_is_shards(const char *path)
{
    return detect(path);
}

static cn_status add_shard(cn_ctx *ctx, shards *s, const char *path)
{
    if (s->n == MAX_SHARDS) return cn_fail(ctx, CN_EINVAL, "more than %d shards", MAX_SHARDS);
    if (!cn_file_exists(path))
        return cn_fail(ctx, CN_EIO, "%s: no such file; a tar shard is expected", path);
    if (s->n == s->cap) {
        const int64_t cap = s->cap ? 2 * s->cap : 64;
        uint64_t *grown =
            cn_regrow(ctx, s->offsets, (size_t)s->n * sizeof *grown, (size_t)cap * sizeof *grown);
        if (!grown) return CN_ENOMEM;
        s->offsets = grown;
        s->cap = cap;
    }
    s->offsets[s->n++] = s->text.len;
    cn_str_add(&s->text, path, strlen(path) + 1);
    return s->text.failed ? cn_fail(ctx, CN_ENOMEM, "no memory for the shards' names") : CN_OK;
}

/* "a-{08..11}-b": numbers from 08 to 11 in the first one's width; braces further on likewise. */
static cn_status expand(cn_ctx *ctx, shards *s, const char *pattern)
{
    char path[CN_PATH_BYTES];
    const char *open = strchr(pattern, '{');
    if (!open) return add_shard(ctx, s, pattern);
    char *end = NULL;
    const long long first = strtoll(open + 1, &end, 10);
    const int width = (int)(end - open - 1);
    const bool dots = width > 0 && end[0] == '.' && end[1] == '.';
    const char *second = dots ? end + 2 : open;
    const long long last = dots ? strtoll(second, &end, 10) : 0;
    if (!dots || end == second || *end != '}' || first < 0 || last < first ||
        last - first >= MAX_SHARDS || width > 18)
        return cn_fail(ctx, CN_EINVAL, "%s: a pattern such as name-{000..099}.tar is expected",
                       pattern);
    for (long long k = first; k <= last; k++) {
        CN_TRY(cn_format(ctx, path, sizeof path, "%.*s%0*lld%s", (int)(open - pattern), pattern,
                         width, k, end + 1));
        CN_TRY(expand(ctx, s, path));
    }
    return CN_OK;
}

static cn_status list_folder(cn_ctx *ctx, shards *s, const char *dir)
{
    char path[CN_PATH_BYTES];
    cn_listing list = {0};
    CN_TRY(cn_listing_read(ctx, dir, &(cn_listing_rules){.endings = tar_endings}, &list));
    cn_status status = CN_OK;
    for (int64_t i = 0; status == CN_OK && i < list.n; i++) {
        status = cn_dataset_path(ctx, dir, list.names[i], path);
        if (status == CN_OK) status = add_shard(ctx, s, path);
    }
    cn_listing_free(&list);
    return status;
}

/* --- which members ---------------------------------------------------------------------------- */

/* The key's length: up to the first dot behind the last '/'; 0: no key. */
static size_t key_bytes(const char *name)
{
    const char *slash = strrchr(name, '/'), *dot = strchr(slash ? slash + 1 : name, '.');
    return dot && dot != name ? (size_t)(dot - name) : 0;
}

/* The place of an ending in a list "jpg;png", or -1. */
static int rank_in_list(const char *list, const char *ending)
{
    const size_t n = strlen(ending);
    int rank = 0;
    for (const char *p = list; *p; rank++) {
        const size_t k = strcspn(p, ";");
        if (k == n && !memcmp(p, ending, n)) return rank;
        p += k + (p[k] == ';');
    }
    return -1;
}

/* The pair that is being gathered while a shard is scanned. */
typedef struct scan {
    cn_ctx *ctx;
    cn_dataset *d;
    cn_dataset_faults *faults;
    uint64_t shard;
    char key[KEY_BYTES];
    uint64_t places[PARTS];
    int caption_rank;                /* of its ending */
    int64_t without_caption, others; /* others: keys without any picture */
} scan;

static cn_status finish_pair(scan *c)
{
    const shards *s = c->d->own;
    const bool target = c->places[TARGET] != NO_PLACE, condition = c->places[CONDITION] != NO_PLACE;
    cn_status status = CN_OK;
    if (target && (condition || s->alone)) {
        c->without_caption += c->places[CAPTION] == NO_PLACE;
        status = cn_dataset_add(c->ctx, c->d, c->places);
    } else if ((target || condition) && !s->alone) {
        status = cn_fail(c->ctx, CN_EFORMAT, "%s: %s: no member .%s", shard_path(s, c->shard),
                         c->key, s->endings[target ? CONDITION : TARGET]);
    } else {
        c->others += c->key[0] != 0;
    }
    c->key[0] = 0;
    for (int i = 0; i < PARTS; i++) c->places[i] = NO_PLACE;
    return cn_dataset_fault(c->ctx, c->faults, status);
}

static cn_status take_member(void *user, const cn_tar_entry *e)
{
    scan *c = user;
    const shards *s = c->d->own;
    const size_t n = key_bytes(e->name);
    if (!n || n >= KEY_BYTES) return CN_OK;
    if (strlen(c->key) != n || memcmp(c->key, e->name, n) != 0) {
        CN_TRY(finish_pair(c));
        memcpy(c->key, e->name, n);
        c->key[n] = 0;
    }
    if ((uint64_t)e->position >> PLACE_BITS)
        return cn_fail(c->ctx, CN_EINVAL, "%s: too large", shard_path(s, c->shard));
    for (int i = 0; i < PARTS; i++) {
        const int rank = rank_in_list(s->endings[i], e->name + n + 1);
        if (rank < 0) continue;
        /* members stand in any order, and a .txt is the caption even behind a .json */
        if (c->places[i] != NO_PLACE && (i != CAPTION || rank >= c->caption_rank)) continue;
        c->places[i] = c->shard << PLACE_BITS | (uint64_t)e->position;
        if (i == CAPTION) c->caption_rank = rank;
        break;
    }
    return CN_OK;
}

/* By the index beside the shard, else by its headers. */
static cn_status visit_members(cn_ctx *ctx, const char *path,
                               cn_status (*visit)(void *user, const cn_tar_entry *e), void *user)
{
    bool indexed = false;
    CN_TRY(cn_shard_index_scan(ctx, path, visit, user, &indexed));
    return indexed ? CN_OK : cn_tar_scan(ctx, path, visit, user);
}

static cn_status scan_shards(cn_ctx *ctx, cn_dataset *d, scan *c)
{
    const shards *s = d->own;
    for (int i = 0; i < PARTS; i++) c->places[i] = NO_PLACE;
    for (int64_t i = 0; i < s->n; i++) {
        c->shard = (uint64_t)i;
        const cn_status status = visit_members(ctx, shard_path(s, c->shard), take_member, c);
        CN_TRY(cn_dataset_fault(ctx, c->faults, status));
        CN_TRY(finish_pair(c));
        if (cn_cancelled(ctx)) return cn_fail(ctx, CN_ECANCELLED, "stopped while listing shards");
    }
    return CN_OK;
}

static cn_status set_endings(cn_ctx *ctx, const cn_dataset_options *o, shards *s)
{
    const char *caption = o->caption_column, *condition = o->conditioning_image_column;
    s->alone = condition && !*condition;
    CN_TRY(cn_format(
        ctx, s->endings[TARGET], ENDINGS_BYTES, "%s",
        o->image_column ? o->image_column : "jpg;jpeg;png;webp;bmp;gif;tif;tiff;avif;jxl"));
    CN_TRY(cn_format(ctx, s->endings[CONDITION], ENDINGS_BYTES, "%s",
                     s->alone    ? "json"
                     : condition ? condition
                                 : "cond.png;cond.jpg;cond.webp;conditioning.png;condition.png"));
    CN_TRY(cn_format(
        ctx, s->endings[CAPTION], ENDINGS_BYTES, "%s",
        caption && rank_in_list("txt;caption", caption) >= 0 ? caption : "txt;caption;json"));
    return cn_format(ctx, s->caption_key, sizeof s->caption_key, "%s", caption ? caption : "text");
}

static cn_status open_shards(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o,
                             cn_dataset_faults *faults)
{
    shards *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    d->own = s;
    d->words = PARTS;
    CN_TRY(set_endings(ctx, o, s));
    CN_TRY(cn_dir_exists(d->dir) ? list_folder(ctx, s, d->dir) : expand(ctx, s, d->dir));
    scan c = {.ctx = ctx, .d = d, .faults = faults};
    CN_TRY(scan_shards(ctx, d, &c));
    if (!d->n && !faults->n)
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: no training pairs in %lld shards; members KEY.{%s} with KEY.{%s} are "
                       "expected (--image-column, --conditioning-image-column say others)",
                       d->dir, (long long)s->n, s->endings[TARGET], s->endings[CONDITION]);
    snprintf(d->found, sizeof d->found,
             "%lld pairs (webdataset) in %lld tar shards: pictures .%s, conditions .%s, captions "
             ".%s (%lld pairs have none, %lld keys hold no pictures)",
             (long long)d->n, (long long)s->n, s->endings[TARGET], s->endings[CONDITION],
             s->endings[CAPTION], (long long)c.without_caption, (long long)c.others);
    return CN_OK;
}

static void close_shards(cn_dataset *d)
{
    shards *s = d->own;
    if (!s) return;
    cn_str_free(&s->text);
    cn_free(s->offsets);
    cn_free(s);
}

/* --- a pair ----------------------------------------------------------------------------------- */

static cn_status set_file(cn_ctx *ctx, const shards *s, uint64_t place, cn_dataset_file *out)
{
    out->position = (int64_t)(place & ((UINT64_C(1) << PLACE_BITS) - 1));
    return (out->path = cn_strdup(ctx, shard_path(s, place >> PLACE_BITS))) ? CN_OK : CN_ENOMEM;
}

/* A .json caption's text under the caption column, "caption" or "prompt". */
static cn_status caption_of_json(cn_ctx *ctx, const shards *s, const char *name, char **text,
                                 size_t n)
{
    json_t *object = NULL;
    CN_TRY(cn_json_load_memory(ctx, name, *text, n, &object));
    const char *found = cn_json_str(object, s->caption_key, NULL);
    if (!found) found = cn_json_str(object, "caption", NULL);
    if (!found) found = cn_json_str(object, "prompt", NULL);
    cn_status status = CN_OK;
    char *copy = found ? cn_strdup(ctx, found) : NULL;
    if (!found)
        status = cn_fail(ctx, CN_EFORMAT, "%s: no \"%s\" (--caption-column says another key)", name,
                         s->caption_key);
    else if (!copy)
        status = CN_ENOMEM;
    json_decref(object);
    if (status != CN_OK) return status;
    cn_free(*text);
    *text = copy;
    return CN_OK;
}

static cn_status read_caption(cn_ctx *ctx, const shards *s, uint64_t place, char **out)
{
    cn_dataset_file file = {0};
    char *name = NULL, *text = NULL;
    size_t n = 0;
    CN_TRY(set_file(ctx, s, place, &file));
    cn_status status =
        cn_tar_read(ctx, file.path, file.position, CN_DATASET_PROMPT_BYTES, &name, &text, &n);
    cn_free(file.path);
    if (status != CN_OK) return status;
    const size_t length = strlen(name);
    if (length > 5 && !strcmp(name + length - 5, ".json"))
        status = caption_of_json(ctx, s, name, &text, n);
    else
        for (size_t k = strlen(text); k && strchr(" \t\r\n", text[k - 1]);) text[--k] = 0;
    cn_free(name);
    if (status == CN_OK)
        *out = text;
    else
        cn_free(text);
    return status;
}

static cn_status get_members(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                             cn_dataset_item *out)
{
    const shards *s = d->own;
    char where[CN_PATH_BYTES + 32];
    CN_TRY(set_file(ctx, s, words[TARGET], &out->target));
    if (words[CONDITION] != NO_PLACE) CN_TRY(set_file(ctx, s, words[CONDITION], &out->condition));
    CN_TRY(cn_format(ctx, where, sizeof where, "%s: the member at byte %lld", out->target.path,
                     (long long)out->target.position));
    if (!(out->where = cn_strdup(ctx, where))) return CN_ENOMEM;
    if (!prompt || words[CAPTION] == NO_PLACE) return CN_OK;
    return read_caption(ctx, s, words[CAPTION], &out->prompt);
}

/* --- members beside those of a pair ----------------------------------------------------------- */

bool cn_shard_members_there(const cn_dataset *d)
{
    return d->layout == &cn_dataset_webdataset;
}

uint64_t cn_shard_members_target(const cn_dataset *d, int64_t i)
{
    return d->index[i * d->words + TARGET];
}

typedef struct visitor {
    void (*visit)(void *user, const cn_shard_member *m);
    void *user;
    uint64_t shard;
} visitor;

static cn_status visit_one(void *user, const cn_tar_entry *e)
{
    const visitor *v = user;
    const size_t n = key_bytes(e->name);
    if (!n || n >= KEY_BYTES || (uint64_t)e->position >> PLACE_BITS) return CN_OK;
    v->visit(v->user, &(cn_shard_member){.key = e->name,
                                         .key_bytes = n,
                                         .ending = e->name + n + 1,
                                         .shard = v->shard,
                                         .place = v->shard << PLACE_BITS | (uint64_t)e->position});
    return CN_OK;
}

cn_status cn_shard_members_visit(cn_ctx *ctx, const cn_dataset *d,
                                 void (*visit)(void *user, const cn_shard_member *m), void *user)
{
    const shards *s = d->own;
    visitor v = {visit, user, 0};
    for (; v.shard < (uint64_t)s->n; v.shard++) {
        const cn_status status = visit_members(ctx, shard_path(s, v.shard), visit_one, &v);
        if (status != CN_OK && status != CN_EFORMAT) return status; /* what is cut was told */
        if (cn_cancelled(ctx)) return cn_fail(ctx, CN_ECANCELLED, "stopped while listing shards");
    }
    return CN_OK;
}

const char *cn_shard_members_path(const cn_dataset *d, uint64_t place, int64_t *position)
{
    *position = (int64_t)(place & ((UINT64_C(1) << PLACE_BITS) - 1));
    return shard_path(d->own, place >> PLACE_BITS);
}

const cn_dataset_layout cn_dataset_webdataset = {.name = "webdataset",
                                                 .expected = "tar shards",
                                                 .detect = detect,
                                                 .over_lists = true,
                                                 .open = open_shards,
                                                 .get = get_members,
                                                 .close = close_shards};
