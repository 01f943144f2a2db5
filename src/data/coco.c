/* SPDX-License-Identifier: Apache-2.0 */
/* coco.c - see coco.h. */
#include "data/coco.h"

#include "data/coco_mask.h"
#include "annotate/labels.h"
#include "io/json.h"
#include "io/json_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct picture {
    int64_t id, width, height;
    size_t name;               /* offset into names */
    int64_t part[2], parts[2]; /* its annotations, its captions: first and how many */
} picture;

/* Where an annotation lies; sorted by picture, then by place. */
typedef struct place {
    uint64_t offset;
    uint32_t bytes, picture;
} place;

typedef struct places {
    cn_json_parts *file;
    place *list;
    int64_t n, cap;
} places;

enum { INSTANCES, CAPTIONS };

struct cn_coco {
    picture *pictures;
    int64_t n, cap;
    uint32_t *by_id, *by_name; /* numbers of pictures in that order */
    cn_str names;
    places places[2];
};

/* --- pictures --------------------------------------------------------------------------------- */

static cn_status grow(cn_ctx *ctx, void **list, int64_t n, int64_t *cap, size_t each)
{
    if (n < *cap) return CN_OK;
    const int64_t more = *cap ? 2 * *cap : 1024;
    void *grown = cn_regrow(ctx, *list, (size_t)n * each, (size_t)more * each);
    if (!grown) return CN_ENOMEM;
    *list = grown;
    *cap = more;
    return CN_OK;
}

static cn_status add_picture(void *user, cn_ctx *ctx, const json_t *image, uint64_t offset,
                             uint32_t bytes)
{
    cn_coco *c = user;
    const char *name = NULL;
    picture p = {.name = c->names.len};
    (void)bytes;
    cn_status s = cn_json_need_int(ctx, image, "id", &p.id);
    if (s == CN_OK) s = cn_json_need_int(ctx, image, "width", &p.width);
    if (s == CN_OK) s = cn_json_need_int(ctx, image, "height", &p.height);
    if (s == CN_OK) s = cn_json_need_str(ctx, image, "file_name", &name);
    if (s == CN_OK && cn_image_check_size(ctx, p.width, p.height) != CN_OK) s = CN_EFORMAT;
    if (s == CN_OK && c->n == UINT32_MAX) s = cn_fail(ctx, CN_EFORMAT, "too many pictures");
    if (s != CN_OK)
        return cn_fail_prefix(ctx, s, "the picture at byte %llu", (unsigned long long)offset);
    CN_TRY(grow(ctx, (void **)&c->pictures, c->n, &c->cap, sizeof *c->pictures));
    cn_str_add(&c->names, name, strlen(name) + 1);
    if (c->names.failed) return cn_fail(ctx, CN_ENOMEM, "no memory for the pictures' names");
    c->pictures[c->n++] = p;
    return CN_OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int compare_ids(const void *a, const void *b, void *user)
{
    const cn_coco *c = user;
    const int64_t x = c->pictures[*(const uint32_t *)a].id;
    const int64_t y = c->pictures[*(const uint32_t *)b].id;
    return (x > y) - (x < y);
}

static int compare_names(const void *a, const void *b, void *user)
{
    const cn_coco *c = user;
    return strcmp(base_name(cn_coco_file_name(c, *(const uint32_t *)a)),
                  base_name(cn_coco_file_name(c, *(const uint32_t *)b)));
}

static cn_status sort_pictures(cn_ctx *ctx, cn_coco *c)
{
    const size_t n = (size_t)c->n;
    c->by_id = cn_alloc_array(ctx, n, sizeof *c->by_id);
    c->by_name = cn_alloc_array(ctx, n, sizeof *c->by_name);
    if (!c->by_id || !c->by_name) return CN_ENOMEM;
    for (uint32_t i = 0; i < n; i++) c->by_id[i] = c->by_name[i] = i;
    qsort_r(c->by_id, n, sizeof *c->by_id, compare_ids, c);
    qsort_r(c->by_name, n, sizeof *c->by_name, compare_names, c);
    for (size_t i = 1; i < n; i++)
        if (compare_ids(&c->by_id[i - 1], &c->by_id[i], c) == 0)
            return cn_fail(ctx, CN_EFORMAT, "two pictures have the id %lld",
                           (long long)c->pictures[c->by_id[i]].id);
    return CN_OK;
}

static int64_t find_id(const cn_coco *c, int64_t id)
{
    int64_t low = 0, high = c->n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (c->pictures[c->by_id[middle]].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < c->n && c->pictures[c->by_id[low]].id == id ? (int64_t)c->by_id[low] : -1;
}

int64_t cn_coco_find(const cn_coco *c, const char *file_name)
{
    int64_t low = 0, high = c->n;
    const char *wanted = base_name(file_name);
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (strcmp(base_name(cn_coco_file_name(c, c->by_name[middle])), wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == c->n) return -1;
    const uint32_t i = c->by_name[low];
    return strcmp(base_name(cn_coco_file_name(c, i)), wanted) == 0 ? (int64_t)i : -1;
}

/* --- annotations ------------------------------------------------------------------------------ */

typedef struct collector {
    cn_coco *c;
    places *to;
    bool must_belong; /* captions may speak of pictures that the other file leaves out */
} collector;

static cn_status add_place(void *user, cn_ctx *ctx, const json_t *annotation, uint64_t offset,
                           uint32_t bytes)
{
    collector *k = user;
    int64_t id;
    cn_status s = cn_json_need_int(ctx, annotation, "image_id", &id);
    if (s != CN_OK)
        return cn_fail_prefix(ctx, s, "the annotation at byte %llu", (unsigned long long)offset);
    const int64_t i = find_id(k->c, id);
    if (i < 0 && !k->must_belong) return CN_OK;
    if (i < 0)
        return cn_fail(ctx, CN_EFORMAT,
                       "the annotation at byte %llu belongs to picture %lld, which isn't listed",
                       (unsigned long long)offset, (long long)id);
    CN_TRY(grow(ctx, (void **)&k->to->list, k->to->n, &k->to->cap, sizeof *k->to->list));
    k->to->list[k->to->n++] = (place){offset, bytes, (uint32_t)i};
    return CN_OK;
}

static int by_picture(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->picture != y->picture) return x->picture < y->picture ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static cn_status collect(cn_ctx *ctx, cn_coco *c, int which)
{
    bool found = false;
    places *to = &c->places[which];
    collector k = {c, to, which == INSTANCES};
    CN_TRY(cn_json_parts_each(ctx, to->file, "annotations", add_place, &k, &found));
    if (!found) return cn_fail(ctx, CN_EFORMAT, "it has no \"annotations\"");
    if (to->n) qsort(to->list, (size_t)to->n, sizeof *to->list, by_picture);
    for (int64_t i = 0; i < to->n; i++) {
        picture *p = &c->pictures[to->list[i].picture];
        if (p->parts[which]++ == 0) p->part[which] = i;
    }
    return CN_OK;
}

static cn_status read_lists(cn_ctx *ctx, cn_coco *c)
{
    bool found = false;
    CN_TRY(cn_json_parts_each(ctx, c->places[INSTANCES].file, "images", add_picture, c, &found));
    if (!found) return cn_fail(ctx, CN_EFORMAT, "it has no \"images\"");
    if (c->n == 0) return cn_fail(ctx, CN_EFORMAT, "its list of images is empty");
    CN_TRY(sort_pictures(ctx, c));
    return collect(ctx, c, INSTANCES);
}

static cn_status open_lists(cn_ctx *ctx, cn_coco *c, const char *instances, const char *captions)
{
    cn_status s = read_lists(ctx, c);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", instances);
    if (!c->places[CAPTIONS].file) return CN_OK;
    s = collect(ctx, c, CAPTIONS);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", captions);
}

cn_status cn_coco_open(cn_ctx *ctx, const char *instances, const char *captions, cn_coco **out)
{
    cn_coco *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    cn_status s = cn_json_parts_open(ctx, instances, &c->places[INSTANCES].file);
    if (s == CN_OK && captions) s = cn_json_parts_open(ctx, captions, &c->places[CAPTIONS].file);
    if (s == CN_OK) s = open_lists(ctx, c, instances, captions);
    if (s == CN_OK)
        *out = c;
    else
        cn_coco_close(c);
    return s;
}

cn_status cn_coco_open_memory(cn_ctx *ctx, const char *instances, size_t instances_bytes,
                              const char *captions, size_t captions_bytes, cn_coco **out)
{
    cn_coco *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    cn_status s =
        cn_json_parts_open_memory(ctx, instances, instances_bytes, &c->places[INSTANCES].file);
    if (s == CN_OK && captions)
        s = cn_json_parts_open_memory(ctx, captions, captions_bytes, &c->places[CAPTIONS].file);
    if (s == CN_OK) s = open_lists(ctx, c, "instances", "captions");
    if (s == CN_OK)
        *out = c;
    else
        cn_coco_close(c);
    return s;
}

void cn_coco_close(cn_coco *c)
{
    if (!c) return;
    for (int k = 0; k < 2; k++) {
        cn_json_parts_close(c->places[k].file);
        cn_free(c->places[k].list);
    }
    cn_free(c->pictures);
    cn_free(c->by_id);
    cn_free(c->by_name);
    cn_str_free(&c->names);
    cn_free(c);
}

int64_t cn_coco_count(const cn_coco *c)
{
    return c->n;
}

int64_t cn_coco_size(const cn_coco *c, int64_t i)
{
    return c->pictures[i].width * c->pictures[i].height;
}

const char *cn_coco_file_name(const cn_coco *c, int64_t i)
{
    return c->names.data + c->pictures[i].name;
}

static cn_status part_at(cn_ctx *ctx, const cn_coco *c, int which, int64_t i, int64_t k,
                         json_t **out)
{
    const place *p = &c->places[which].list[c->pictures[i].part[which] + k];
    return cn_json_parts_at(ctx, c->places[which].file, p->offset, p->bytes, out);
}

/* --- maps ------------------------------------------------------------------------------------- */

typedef struct layer {
    cn_coco_mask mask;
    int32_t category;
    int64_t order;
} layer;

static int by_area(const void *a, const void *b)
{
    const layer *x = a, *y = b;
    if (x->mask.area != y->mask.area) return x->mask.area > y->mask.area ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* *keep false: an annotation without a mask, or a crowd that isn't wanted. */
static cn_status make_layer(cn_ctx *ctx, const cn_coco *c, int64_t i, int64_t k, bool crowd,
                            layer *out, bool *keep)
{
    json_t *a = NULL;
    int64_t category = 0;
    const picture *p = &c->pictures[i];
    CN_TRY(part_at(ctx, c, INSTANCES, i, k, &a));
    const json_t *segmentation = json_object_get(a, "segmentation");
    cn_status s = cn_json_need_int(ctx, a, "category_id", &category);
    if (s == CN_OK && (category < 1 || category > INT32_MAX))
        s = cn_fail(ctx, CN_EFORMAT, "\"category_id\" is %lld; 1 or more is expected",
                    (long long)category);
    *keep = segmentation && (crowd || cn_json_int(a, "iscrowd", 0) == 0);
    if (s == CN_OK && *keep)
        s = cn_coco_mask_parse(ctx, segmentation, p->width, p->height, &out->mask);
    out->category = (int32_t)category;
    out->order = k;
    if (s != CN_OK)
        s = cn_fail_prefix(ctx, s, "annotation %lld", (long long)cn_json_int(a, "id", k));
    json_decref(a);
    return s;
}

cn_status cn_coco_categories(cn_ctx *ctx, const cn_coco *c, int64_t i, bool crowd, int64_t *width,
                             int64_t *height, int32_t **columns)
{
    const picture *p = &c->pictures[i];
    const int64_t n = p->parts[INSTANCES];
    const size_t pixels = (size_t)(p->width * p->height);
    layer *layers = cn_alloc0(ctx, (size_t)CN_MAX(n, 1) * sizeof *layers);
    int32_t *map = cn_alloc0(ctx, pixels * sizeof *map);
    cn_status s = layers && map ? CN_OK : CN_ENOMEM;
    int64_t kept = 0;
    for (int64_t k = 0; s == CN_OK && k < n; k++) {
        bool keep = false;
        s = make_layer(ctx, c, i, k, crowd, &layers[kept], &keep);
        kept += keep;
    }
    if (s == CN_OK) {
        qsort(layers, (size_t)kept, sizeof *layers, by_area);
        for (int64_t k = 0; k < kept; k++)
            cn_coco_mask_paint(&layers[k].mask, layers[k].category, map);
        *width = p->width;
        *height = p->height;
        *columns = map;
        map = NULL;
    }
    for (int64_t k = 0; layers && k < n; k++) cn_coco_mask_free(&layers[k].mask);
    cn_free(layers);
    cn_free(map);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", cn_coco_file_name(c, i));
}

cn_status cn_coco_colors(cn_ctx *ctx, const cn_coco *c, int64_t i, bool crowd, cn_image **out)
{
    int64_t w, h;
    int32_t *columns = NULL;
    cn_image *image = NULL;
    CN_TRY(cn_coco_categories(ctx, c, i, crowd, &w, &h, &columns));
    cn_status s = cn_image_create(ctx, w, h, &image);
    int32_t last = 0;
    const uint8_t *color = NULL;
    for (int64_t k = 0; s == CN_OK && k < w * h; k++) {
        if (!columns[k]) continue;
        if (columns[k] != last) color = cn_coco_color(last = columns[k]);
        memcpy(image->rgb + 3 * (k % h * w + k / h), color, 3);
    }
    cn_free(columns);
    if (s == CN_OK) *out = image;
    return s;
}

/* --- captions --------------------------------------------------------------------------------- */

int64_t cn_coco_captions(const cn_coco *c, int64_t i)
{
    return c->pictures[i].parts[CAPTIONS];
}

/* COCO's captions often end in a blank or a line's end. */
cn_status cn_coco_caption(cn_ctx *ctx, const cn_coco *c, int64_t i, int64_t k, char **text)
{
    json_t *a = NULL;
    const char *caption = NULL;
    CN_TRY(part_at(ctx, c, CAPTIONS, i, k, &a));
    cn_status s = cn_json_need_str(ctx, a, "caption", &caption);
    char *copy = NULL;
    if (s == CN_OK && !(copy = cn_strdup(ctx, caption + strspn(caption, " \t\r\n")))) s = CN_ENOMEM;
    json_decref(a);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", cn_coco_file_name(c, i));
    for (size_t n = strlen(copy); n && strchr(" \t\r\n", copy[n - 1]);) copy[--n] = 0;
    for (char *p = copy; *p; p++)
        if (*p == '\n' || *p == '\r' || *p == '\t') *p = ' ';
    *text = copy;
    return CN_OK;
}
