/* SPDX-License-Identifier: Apache-2.0 */
/* samples.c - see samples_internal.h. */
#include "pipeline/samples_internal.h"

#include "io/json.h"
#include "io/listing.h"
#include "image/phash.h"
#include "image/png_level.h"
#include "image/resize.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKET_STEPS = 64 }; /* where none are given, as in training */

/* --- the maker -------------------------------------------------------------------------------- */

/* Names are those of kinds; a second one of a kind has its number behind. */
static cn_status name_condition(cn_ctx *ctx, cn_sample_maker *m, const char *kind)
{
    char *name = m->conditions[m->n_conditions].name;
    int same = 1;
    CN_TRY(cn_format(ctx, name, CN_CONDITION_NAME_BYTES, "%s", kind));
    for (int i = 0; i < m->n_conditions;)
        if (strcmp(m->conditions[i++].name, name) == 0) {
            CN_TRY(cn_format(ctx, name, CN_CONDITION_NAME_BYTES, "%s-%d", kind, ++same));
            i = 0;
        }
    return CN_OK;
}

/* Labels belong to a folder of pictures; with several sources nobody could say to which. */
static cn_status open_labels(cn_ctx *ctx, cn_sample_maker *m, cn_made_condition *c)
{
    const cn_kind *kind = c->condition.links[0].kind;
    const cn_source *s = &m->sources.list[0];
    if (kind->takes == CN_TAKES_PICTURE) return CN_OK;
    if (m->sources.count != 1 || s->kind != &cn_source_folder)
        return cn_fail(ctx, CN_EINVAL, "%s takes %s: one folder of pictures is expected",
                       kind->name, cn_takes_name(kind->takes));
    CN_TRY(cn_labels_find(ctx, kind, cn_source_folder_path(s), m->o->labels, &c->labels));
    return cn_labels_open(ctx, kind, &c->labels);
}

static cn_status open_annotator(cn_ctx *ctx, cn_sample_maker *m, const char *text,
                                cn_made_condition *c)
{
    const cn_annotate_folder_options o = {
        .annotate = {.weights = m->o->weights, .detect_resolution = m->o->detect_resolution},
        .random_thresholds = m->o->random_thresholds,
        .seed = m->o->seed};
    CN_TRY(cn_condition_open(ctx, text, &o, &c->condition));
    m->networks |= !cn_condition_side_by_side(&c->condition);
    CN_TRY(name_condition(ctx, m, c->condition.links[0].kind->name));
    CN_TRY(open_labels(ctx, m, c));
    cn_str_adds(&c->settings, c->condition.settings.data);
    if (c->labels.path[0]) cn_str_addf(&c->settings, " labels=%s", c->labels.path);
    return CN_OK;
}

static cn_status open_condition(cn_ctx *ctx, cn_sample_maker *m, const char *text)
{
    cn_made_condition *c = &m->conditions[m->n_conditions];
    c->exact = cn_sources_exact(&m->sources, text);
    cn_status s;
    if (c->exact >= 0) {
        cn_str_addf(&c->settings, "exact %s", text);
        s = name_condition(ctx, m, text);
    } else {
        s = open_annotator(ctx, m, text, c);
    }
    m->n_conditions++;
    CN_TRY(s);
    if (m->o->resolution)
        cn_str_addf(&c->settings, " of resolution=%lld", (long long)m->o->resolution);
    cn_str_addf(&m->settings, "%s%s", m->n_conditions > 1 ? "; " : "", c->settings.data);
    return c->settings.failed || m->settings.failed
               ? cn_fail(ctx, CN_ENOMEM, "no memory for a run's settings")
               : CN_OK;
}

/* As training makes them of these options. */
static cn_status set_buckets(cn_ctx *ctx, cn_sample_maker *m)
{
    const cn_prepare_options *o = m->o;
    const cn_train_options t = {
        .resolution = o->resolution,
        .enable_bucket = o->enable_bucket,
        .bucket_no_upscale = o->bucket_no_upscale,
        .min_bucket_reso = o->min_bucket_reso,
        .max_bucket_reso = o->max_bucket_reso,
        .bucket_reso_steps = o->bucket_reso_steps ? o->bucket_reso_steps : BUCKET_STEPS};
    if (o->enable_bucket && !o->resolution)
        return cn_fail(ctx, CN_EINVAL,
                       "--enable-bucket takes --resolution, the one that training will have");
    if (o->bucket_reso_steps && !o->enable_bucket)
        return cn_fail(ctx, CN_EINVAL,
                       "--bucket-reso-steps says how buckets are made; --enable-bucket makes them");
    CN_TRY(cn_bucket_options_check(ctx, &t));
    m->buckets = cn_bucket_rules_of(&t);
    return CN_OK;
}

static void describe_buckets(const cn_bucket_rules *r, cn_str *out)
{
    if (r->enabled)
        cn_str_addf(out, "; buckets of %lld px, %lld to %lld by %lld%s", (long long)r->resolution,
                    (long long)r->min_reso, (long long)r->max_reso, (long long)r->steps,
                    r->no_upscale ? ", not enlarged" : "");
}

static cn_status open_maker(cn_ctx *ctx, cn_sample_maker *m)
{
    CN_TRY(cn_filters_check(ctx, m->o));
    CN_TRY(set_buckets(ctx, m));
    CN_TRY(cn_sources_open(ctx, m->o, &m->sources));
    for (int k = 0; k < m->sources.count; k++)
        if (m->sources.list[k].taken > m->sources.list[k].n && cn_filters_drop_lookalikes(m->o))
            return cn_fail(
                ctx, CN_EINVAL,
                "%s: taken more than once and rid of duplicates; one of both is expected",
                m->sources.list[k].text);
    for (const char *const *text = m->o->conditions; *text; text++)
        CN_TRY(open_condition(ctx, m, *text));
    CN_TRY(cn_sample_encoder_open(ctx, m->o, &m->buckets, &m->encoder));
    if (!m->networks && m->o->weights && *m->o->weights)
        return cn_fail(ctx, CN_EINVAL, "none of the conditions has a network that takes %s",
                       *m->o->weights);
    cn_str_addf(&m->settings, "; seed=%llu", (unsigned long long)m->o->seed);
    cn_filters_describe(m->o, &m->settings);
    describe_buckets(&m->buckets, &m->settings);
    if (m->encoder) cn_sample_encoder_describe(m->encoder, &m->settings);
    return m->settings.failed ? cn_fail(ctx, CN_ENOMEM, "no memory for a run's settings") : CN_OK;
}

cn_status cn_sample_maker_open(cn_ctx *ctx, const cn_prepare_options *o, cn_sample_maker *out)
{
    *out = (cn_sample_maker){.o = o};
    const cn_status s = open_maker(ctx, out);
    if (s != CN_OK) cn_sample_maker_close(out);
    return s;
}

void cn_sample_maker_close(cn_sample_maker *m)
{
    for (int k = 0; k < m->n_conditions; k++) {
        cn_condition_close(&m->conditions[k].condition);
        cn_labels_close(&m->conditions[k].labels);
        cn_str_free(&m->conditions[k].settings);
    }
    cn_sample_encoder_close(m->encoder);
    cn_sources_close(&m->sources);
    cn_str_free(&m->settings);
    *m = (cn_sample_maker){0};
}

/* --- decode ----------------------------------------------------------------------------------- */

/* The picture as the pair has it: the shorter side brought down to the resolution, proportions
 * kept. Bytes that are no longer its own are dropped. */
static cn_status shrink(const cn_sample_maker *m, cn_ctx *ctx, cn_entry *e)
{
    cn_image *small = NULL;
    const int64_t w = e->image->width, h = e->image->height, px = m->o->resolution;
    if (!px || CN_MIN(w, h) <= px) return CN_OK;
    const double k = (double)px / (double)CN_MIN(w, h);
    CN_TRY(cn_image_resize(ctx, e->image, __builtin_llrint((double)w * k),
                           __builtin_llrint((double)h * k), CN_FILTER_AREA, &small));
    cn_image_destroy(e->image);
    e->image = small;
    cn_free(e->bytes);
    e->bytes = NULL;
    return CN_OK;
}

/* What its bucket shows of a picture, or of a map of it, whose size was the original picture's. */
static cn_status fit_bucket(const cn_sample_maker *m, cn_ctx *ctx, const cn_sample *s, bool labels,
                            cn_image **image)
{
    const cn_train_bucket *b = &s->size;
    const cn_crop crop = {0.5, 0.5, cn_bucket_zoom(&m->buckets, b, s->width, s->height)};
    cn_image *fitted = NULL;
    if (!m->buckets.enabled || (s->width == b->width && s->height == b->height)) return CN_OK;
    CN_TRY((labels ? cn_image_resize_crop_labels : cn_image_resize_crop)(ctx, *image, b->width,
                                                                         b->height, crop, &fitted));
    cn_image_destroy(*image);
    *image = fitted;
    return CN_OK;
}

static cn_status resize(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    cn_entry *e = &s->entry;
    const cn_image *before = e->image;
    if (!m->buckets.enabled) return shrink(m, ctx, e);
    CN_TRY(fit_bucket(m, ctx, s, false, &e->image));
    if (e->image == before) return CN_OK;
    cn_free(e->bytes);
    e->bytes = NULL;
    return CN_OK;
}

/* false: no bucket takes it. */
static bool choose_size(const cn_sample_maker *m, cn_sample *s)
{
    s->size = (cn_train_bucket){.width = m->o->resolution, .height = m->o->resolution};
    return !m->buckets.enabled || cn_bucket_choose(&m->buckets, s->width, s->height, &s->size);
}

/* The size is asked of the file's beginning, so that what a filter leaves out isn't decoded. */
static cn_status decode(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    cn_entry *e = &s->entry;
    const cn_source_place at = cn_sources_find(&m->sources, s->index);
    CN_TRY(at.source->kind->get(ctx, at.source, at.number, e));
    if (e->image) {
        s->width = e->image->width;
        s->height = e->image->height;
    } else {
        CN_TRY(cn_image_size_memory(ctx, e->bytes, e->n_bytes, &s->width, &s->height));
    }
    s->reason = cn_filter_entry(m->o, e, s->width, s->height);
    if (!s->reason && !choose_size(m, s)) s->reason = "small";
    if (s->reason) return CN_OK;
    if (!e->image) CN_TRY(cn_image_load_memory(ctx, e->bytes, e->n_bytes, &e->image));
    return resize(m, ctx, s);
}

/* --- annotate --------------------------------------------------------------------------------- */

static cn_status make_exact(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    int which[CN_SAMPLE_CONDITIONS], n = 0;
    cn_image *made[CN_SAMPLE_CONDITIONS] = {NULL};
    const cn_source_place at = cn_sources_find(&m->sources, s->index);
    for (int k = 0; k < m->n_conditions; k++) {
        if (m->conditions[k].exact < 0) continue;
        CN_TRY(cn_image_create(ctx, s->width, s->height, &s->conditions[k]));
        which[n] = m->conditions[k].exact;
        made[n++] = s->conditions[k];
    }
    if (n) CN_TRY(at.source->kind->exact(ctx, at.source, at.number, n, which, made));
    for (int k = 0; k < m->n_conditions; k++)
        if (m->conditions[k].exact >= 0) CN_TRY(fit_bucket(m, ctx, s, false, &s->conditions[k]));
    return CN_OK;
}

static cn_status make_condition(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s, int k)
{
    const cn_made_condition *c = &m->conditions[k];
    const cn_kind *kind = c->condition.links[0].kind;
    const bool labelled = kind->takes != CN_TAKES_PICTURE;
    char name[CN_PATH_BYTES], path[CN_PATH_BYTES];
    const int64_t repeat = cn_sources_find(&m->sources, s->index).repeat;
    CN_TRY(cn_format(ctx, name, sizeof name, "%.*s", (int)s->entry.stem, s->entry.name));
    if (repeat) /* other draws than before */
        CN_TRY(cn_format(ctx, name, sizeof name, "%.*s#%lld", (int)s->entry.stem, s->entry.name,
                         (long long)repeat));
    cn_condition_input in = {.name = name};
    if (labelled)
        CN_TRY(cn_labels_input(ctx, &c->labels, kind, s->entry.name, path, &in));
    else
        in.image = s->entry.image;
    if (!(s->notes[k] = json_object())) return cn_fail(ctx, CN_ENOMEM, "no memory for a note");
    CN_TRY(cn_condition_make(&c->condition, ctx, &in, s->notes[k], &s->conditions[k]));
    if (labelled && m->buckets.enabled) { /* labels are of the whole picture */
        CN_TRY(cn_condition_match(ctx, s->width, s->height, true, &s->conditions[k]));
        return fit_bucket(m, ctx, s, true, &s->conditions[k]);
    }
    return cn_condition_match(ctx, s->entry.image->width, s->entry.image->height, labelled,
                              &s->conditions[k]);
}

static cn_status make_conditions(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s, bool networks)
{
    if (!networks) CN_TRY(make_exact(m, ctx, s));
    for (int k = 0; k < m->n_conditions && !s->reason; k++) {
        const cn_made_condition *c = &m->conditions[k];
        if (c->exact < 0 && cn_condition_side_by_side(&c->condition) == networks) continue;
        if ((c->exact >= 0) && networks) continue;
        if (c->exact < 0) CN_TRY(make_condition(m, ctx, s, k));
        s->reason = cn_filter_condition(m->o, s->conditions[k]);
    }
    return CN_OK;
}

/* --- encode ----------------------------------------------------------------------------------- */

/* A picture that is still its file's bytes stays so. */
static cn_status encode_picture(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    const cn_entry *e = &s->entry;
    uint8_t *bytes = NULL;
    size_t n = 0;
    const char *ending = e->bytes ? cn_image_ending_memory(e->bytes, e->n_bytes) : NULL;
    if (ending) return cn_shard_sample_add(ctx, &s->made, ending, e->bytes, e->n_bytes);
    if (m->o->quality)
        CN_TRY(cn_jpeg_encode(ctx, e->image, (int)m->o->quality, &bytes, &n));
    else
        CN_TRY(cn_png_encode_level(ctx, e->image, (int)m->o->png_level, &bytes, &n));
    const cn_status status =
        cn_shard_sample_add(ctx, &s->made, m->o->quality ? "jpg" : "png", bytes, n);
    cn_free(bytes);
    return status;
}

/* "cond.png", which readers look for, of a single one; "canny.png" of several. */
static cn_status encode_condition(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s, int k)
{
    char ending[CN_SHARD_ENDING_BYTES];
    uint8_t *bytes = NULL;
    size_t n = 0;
    CN_TRY(cn_format(ctx, ending, sizeof ending, "%s.png",
                     m->n_conditions > 1 ? m->conditions[k].name : "cond"));
    CN_TRY(cn_png_encode_level(ctx, s->conditions[k], (int)m->o->png_level, &bytes, &n));
    const cn_status status = cn_shard_sample_add(ctx, &s->made, ending, bytes, n);
    cn_free(bytes);
    return status;
}

static json_t *describe_condition(const cn_made_condition *c, json_t *note)
{
    json_t *one = json_pack("{s:s,s:s}", "name", c->name, "made_by", c->settings.data);
    if (one && note && json_object_update(one, note) != 0) {
        json_decref(one);
        return NULL;
    }
    return one;
}

/* What was done to each picture stands beside it, so that it outlives any later sorting of shards.
 * NULL without memory. */
static json_t *describe(const cn_sample_maker *m, const cn_sample *s, const cn_source *source)
{
    const cn_entry *e = &s->entry;
    json_t *conditions = json_array();
    json_t *all = json_pack(
        "{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:o}", "key", s->made.key, "source", source->text,
        "name", e->name, "caption", e->caption, "width", (json_int_t)e->image->width, "height",
        (json_int_t)e->image->height, "original_width", (json_int_t)s->width, "original_height",
        (json_int_t)s->height, "seed", (json_int_t)m->o->seed, "conditions", conditions);
    bool whole = all && (!e->json || json_object_set(all, "original", e->json) == 0);
    for (int k = 0; whole && k < m->n_conditions; k++)
        whole = json_array_append_new(conditions,
                                      describe_condition(&m->conditions[k], s->notes[k])) == 0;
    if (whole) return all;
    json_decref(all);
    return NULL;
}

static cn_status encode_json(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    const cn_source *source = cn_sources_find(&m->sources, s->index).source;
    if (!cn_json_is_text(s->entry.name) || !cn_json_is_text(s->entry.caption) ||
        !cn_json_is_text(source->text))
        return cn_fail(ctx, CN_EFORMAT, "its name or caption isn't UTF-8, which a shard's are in");
    json_t *object = describe(m, s, source);
    char *text = cn_json_text(object, JSON_COMPACT);
    json_decref(object);
    if (!text) return cn_fail(ctx, CN_ENOMEM, "no memory for a sample's .json");
    const cn_status status = cn_shard_sample_add(ctx, &s->made, "json", text, strlen(text));
    free(text);
    return status;
}

static cn_status encode(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    snprintf(s->made.key, sizeof s->made.key, "%09lld", (long long)s->index);
    CN_TRY(encode_picture(m, ctx, s));
    for (int k = 0; k < m->n_conditions; k++) CN_TRY(encode_condition(m, ctx, s, k));
    CN_TRY(cn_shard_sample_add(ctx, &s->made, "txt", s->entry.caption, strlen(s->entry.caption)));
    CN_TRY(encode_json(m, ctx, s));
    if (!m->encoder) return CN_OK;
    if (!(s->caption = cn_strdup(ctx, s->entry.caption))) return CN_ENOMEM;
    return cn_sample_encoder_fit(ctx, s);
}

/* --- stages ----------------------------------------------------------------------------------- */

/* A picture that can't be used is left out and named. What the system, memory or a signal did ends
 * the run, which goes on from there later: a folder that vanished says nothing about its pictures.
 */
static void settle(cn_ctx *ctx, cn_sample *s, cn_status status)
{
    if (status == CN_OK) return;
    s->reason = "failed";
    const char *where = s->entry.where, *error = cn_error(ctx);
    const bool named = !where || strstr(error, where);
    snprintf(s->text, sizeof s->text, "%s%s%s", named ? "" : where, named ? "" : ": ", error);
    if (status == CN_EIO || status == CN_ENOMEM || status == CN_ECANCELLED) s->status = status;
}

static void drop_pictures(cn_sample *s)
{
    for (int k = 0; k < CN_SAMPLE_CONDITIONS; k++) {
        cn_image_destroy(s->conditions[k]);
        json_decref(s->notes[k]);
        s->conditions[k] = NULL;
        s->notes[k] = NULL;
    }
    cn_entry_free(&s->entry);
}

static void drop_fitted(cn_sample *s)
{
    cn_image_destroy(s->fitted);
    cn_free(s->caption);
    s->fitted = NULL;
    s->caption = NULL;
}

void cn_sample_start(const cn_sample_maker *m, cn_ctx *ctx, int64_t index, cn_sample *out)
{
    *out = (cn_sample){.index = index};
    if (m->alike && m->alike[index]) out->reason = "duplicate";
    if (out->reason) return;
    const double begun = cn_now_s();
    settle(ctx, out, decode(m, ctx, out));
    const double decoded = cn_now_s();
    out->seconds[CN_STAGE_DECODE] = decoded - begun;
    if (out->reason) return;
    settle(ctx, out, make_conditions(m, ctx, out, false));
    out->seconds[CN_STAGE_ANNOTATE] = cn_now_s() - decoded;
}

void cn_sample_run_networks(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    const double begun = cn_now_s();
    if (!s->reason) settle(ctx, s, make_conditions(m, ctx, s, true));
    s->seconds[CN_STAGE_ANNOTATE] += cn_now_s() - begun;
}

void cn_sample_encode(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    const double begun = cn_now_s();
    if (!s->reason) settle(ctx, s, encode(m, ctx, s));
    if (s->reason) cn_shard_sample_free(&s->made);
    drop_pictures(s);
    s->seconds[CN_STAGE_ENCODE] = cn_now_s() - begun;
}

void cn_sample_run_encoder(const cn_sample_maker *m, cn_ctx *ctx, cn_sample *s)
{
    const double begun = cn_now_s();
    if (!s->reason) settle(ctx, s, cn_sample_encoder_add(m->encoder, ctx, s));
    if (s->reason) cn_shard_sample_free(&s->made);
    drop_fitted(s);
    s->seconds[CN_STAGE_ENCODE] += cn_now_s() - begun;
}

cn_status cn_sample_hash(const cn_sample_maker *m, cn_ctx *ctx, int64_t index, uint64_t *out)
{
    cn_sample s = {.index = index};
    settle(ctx, &s, decode(m, ctx, &s));
    *out = 0;
    if (!s.reason) settle(ctx, &s, cn_image_phash(ctx, s.entry.image, out));
    if (!s.reason && !*out) *out = 1;
    const cn_status status = s.status == CN_OK ? CN_OK : cn_fail(ctx, s.status, "%s", s.text);
    cn_sample_free(&s);
    return status;
}

void cn_sample_free(cn_sample *s)
{
    drop_pictures(s);
    drop_fitted(s);
    cn_shard_sample_free(&s->made);
}
