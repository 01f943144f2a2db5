/* pipeline_dataset.c - controlnet.h's calls on data sets: scenes to train on, and looking one over. */
#include "annotate/annotate.h"
#include "scene/scene.h"
#include "train/dataset.h"

#include <stdlib.h>
#include <string.h>

/* --- scenes -------------------------------------------------------------------------------------- */

/* "canny low=50 high=100" to its kind and options. */
static cn_status parse_condition(cn_ctx *ctx, const char *text, cn_annotate_args *args)
{
    char words[512], *rest = NULL;
    const cn_annotator *kind = NULL;
    CN_TRY(cn_format(ctx, words, sizeof words, "%s", text));
    char *word = strtok_r(words, " ,", &rest);
    if (!word) return cn_fail(ctx, CN_EINVAL, "no condition given; canny or edges, for instance");
    cn_status s = cn_annotator_need(ctx, word, &kind);
    if (s != CN_OK)
        return cn_fail_prefix(
            ctx, s, "condition \"%s\" is none of edges, depth, normal, segmentation", word);
    cn_annotate_defaults(kind, args);
    while ((word = strtok_r(NULL, " ,", &rest))) CN_TRY(cn_annotate_parse(ctx, args, word));
    return CN_OK;
}

/* Every option spelled out, so that whoever reads scenes.txt can make the same condition. */
static cn_status describe(cn_ctx *ctx, const cn_annotate_args *args, char *out, size_t cap)
{
    cn_str text = {0};
    cn_str_adds(&text, args->kind->name);
    for (int i = 0; i < args->kind->n_options; i++)
        cn_str_addf(&text, " %s=%g", args->kind->options[i].name, args->values[i]);
    cn_status s = text.failed ? cn_fail(ctx, CN_ENOMEM, "out of memory for a condition's name")
                              : cn_format(ctx, out, cap, "%s", text.data);
    cn_str_free(&text);
    return s;
}

static cn_status annotate_scene(void *user, cn_ctx *ctx, const cn_image *picture,
                                cn_image *condition)
{
    cn_image *out = NULL;
    CN_TRY(cn_annotate(ctx, user, picture, &out));
    const bool fits = out->width == condition->width && out->height == condition->height;
    if (fits) memcpy(condition->rgb, out->rgb, (size_t)(out->width * out->height * 3));
    cn_image_destroy(out);
    return fits ? CN_OK
                : cn_fail(ctx, CN_EINVAL,
                          "this annotator changes the picture's size; one that "
                          "keeps it is expected");
}

cn_status cn_dataset_scenes(cn_ctx *ctx, const cn_scenes_options *o)
{
    char name[256];
    cn_annotate_args args = {0};
    cn_scene_dataset d = {.dir = o->output_dir,
                          .n = o->count,
                          .first_index = o->start,
                          .seed = o->seed,
                          .size_px = o->size_px,
                          .progress = o->progress,
                          .progress_user = o->user};
    const char *condition = o->condition ? o->condition : "canny";
    const int exact = cn_scene_condition_find(condition);
    if (exact >= 0) {
        d.condition = (cn_scene_condition)exact;
    } else {
        CN_TRY(parse_condition(ctx, condition, &args));
        CN_TRY(describe(ctx, &args, name, sizeof name));
        d.compute = annotate_scene;
        d.compute_name = name;
        d.compute_user = &args;
    }
    return cn_scene_write_dataset(ctx, &d);
}

/* --- check --------------------------------------------------------------------------------------- */

typedef struct fault_counter {
    void (*problem)(void *user, const char *text);
    void *user;
    int64_t n;
} fault_counter;

static void count_fault(void *user, const char *text)
{
    fault_counter *f = user;
    f->n++;
    if (f->problem) f->problem(f->user, text);
}

static bool is_blank(const cn_image *image)
{
    const int64_t bytes = image->width * image->height * 3;
    for (int64_t i = 3; i < bytes; i++)
        if (image->rgb[i] != image->rgb[i - 3]) return false;
    return true;
}

static void look_at(const cn_image *condition, const cn_image *target, cn_dataset_report *r)
{
    const int64_t w = target->width, h = target->height;
    r->min_width = r->min_width ? CN_MIN(r->min_width, w) : w;
    r->min_height = r->min_height ? CN_MIN(r->min_height, h) : h;
    r->max_width = CN_MAX(r->max_width, w);
    r->max_height = CN_MAX(r->max_height, h);
    r->blank_conditions += is_blank(condition);
    r->unequal_sizes += condition->width != w || condition->height != h;
}

/* Decodes every pair; CN_EFORMAT of one doesn't end the search for others. */
static cn_status check_pictures(cn_ctx *ctx, const cn_dataset *d, fault_counter *faults,
                                cn_dataset_report *r)
{
    cn_status stopped = CN_OK;
#pragma omp parallel for schedule(dynamic, 8) num_threads(cn_threads(ctx))
    for (int64_t i = 0; i < d->n; i++) {
        cn_image *condition = NULL, *target = NULL;
        if (cn_cancelled(ctx)) continue;
        /* a context of its own keeps this picture's message apart from the others' */
        cn_ctx *own = cn_ctx_create(1);
        const cn_status s = own ? cn_dataset_load(own, d, i, 0, 0, &condition, &target) : CN_ENOMEM;
#pragma omp critical(cn_dataset_check)
        {
            if (s == CN_OK)
                look_at(condition, target, r);
            else if (s == CN_ENOMEM)
                stopped = cn_fail(ctx, CN_ENOMEM, "out of memory while looking at pictures");
            else
                count_fault(faults, cn_error(own));
        }
        cn_image_destroy(condition);
        cn_image_destroy(target);
        cn_ctx_destroy(own);
    }
    if (stopped == CN_OK && cn_cancelled(ctx))
        return cn_fail(ctx, CN_ECANCELLED, "stopped before every picture was looked at");
    return stopped;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static cn_status count_prompts(cn_ctx *ctx, const cn_dataset *d, cn_dataset_report *r)
{
    const char **texts = cn_alloc_array(ctx, (size_t)d->n, sizeof *texts);
    if (!texts) return CN_ENOMEM;
    for (int64_t i = 0; i < d->n; i++) texts[i] = d->items[i].prompt;
    qsort(texts, (size_t)d->n, sizeof *texts, by_text);
    for (int64_t i = 0; i < d->n; i++) {
        r->distinct_prompts += !i || strcmp(texts[i], texts[i - 1]) != 0;
        r->empty_prompts += !texts[i][0];
    }
    cn_free(texts);
    return CN_OK;
}

cn_status cn_dataset_check(cn_ctx *ctx, const char *dir,
                           void (*problem)(void *user, const char *text), void *user,
                           cn_dataset_report *out)
{
    cn_dataset *d = NULL;
    cn_dataset_report r = {0};
    fault_counter faults = {problem, user, 0};
    cn_status s = cn_dataset_open(ctx, dir, count_fault, &faults, &d);
    if (s == CN_OK) {
        r.layout = d->layout == CN_DATASET_FILL50K ? "fill50k" : "huggingface";
        r.pairs = d->n;
        s = count_prompts(ctx, d, &r);
        if (s == CN_OK) s = check_pictures(ctx, d, &faults, &r);
    }
    cn_dataset_close(d);
    r.problems = faults.n;
    if (s == CN_OK && faults.n)
        s = cn_fail(ctx, CN_EFORMAT, "%s: %lld pictures can't be used", dir, (long long)faults.n);
    if (out) *out = r;
    return s;
}
