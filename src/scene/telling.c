/* SPDX-License-Identifier: Apache-2.0 */
/* telling.c - scenes told in plain English, in several wordings. */
#include "scene/scene.h"

#include <string.h>

/* %O the objects, %G the ground, %S the sky. */
static const struct {
    const char *text;
    bool say_all; /* that a surface is matte or a person standing, which else goes without saying */
} forms[] = {
    {"%O on %G ground under a %S sky", false},
    {"a photo of %O on %G ground under a %S sky", true},
    {"a picture of %O on %G ground, %S sky", false},
    {"%O on %G ground, %S sky", true},
    {"under a %S sky, %O on %G ground", false},
    {"%G ground and a %S sky with %O", false},
    {"an image of %O", true},
    {"%O", false},
};

enum { FORMS = (int)CN_COUNT(forms), ONLY_OBJECTS = FORMS - 1 };

/* How objects are joined. */
enum { TELL_RELATION, TELL_INVERSE, TELL_LIST, TELLINGS };

typedef struct text {
    char *out;
    size_t used, cap;
} text;

typedef struct wording {
    int form, telling;
    bool postures;
} wording;

int cn_scene_caption_count(void)
{
    return FORMS * TELLINGS;
}

static void append(text *t, const char *more)
{
    for (; *more && t->used + 1 < t->cap; more++) t->out[t->used++] = *more;
    t->out[t->used] = 0;
}

static void append_word(text *t, const char *word)
{
    append(t, word);
    append(t, " ");
}

static void append_person(text *t, const cn_scene_object *o, const wording *w)
{
    append(t, "a person in ");
    append(t, o->colour == CN_COLOUR_ORANGE ? "an " : "a ");
    append_word(t, cn_scene_colour_name(o->colour));
    append(t, "shirt and ");
    append_word(t, cn_scene_colour_name(o->trousers));
    append(t, "trousers");
    if (!w->postures || (o->posture == CN_POSTURE_STANDING && !forms[w->form].say_all)) return;
    append(t, ", ");
    append(t, cn_scene_posture_name(o->posture));
}

static void append_object(text *t, const cn_scene_object *o, const wording *w)
{
    if (o->shape == CN_SHAPE_PERSON) {
        append_person(t, o, w);
        return;
    }
    const bool material = o->material != CN_MATERIAL_MATTE || forms[w->form].say_all;
    /* Stairs are more than one. */
    if (o->shape != CN_SHAPE_STAIRS)
        append(t, !material && o->colour == CN_COLOUR_ORANGE ? "an " : "a ");
    if (material) append_word(t, cn_scene_material_name(o->material));
    append_word(t, cn_scene_colour_name(o->colour));
    append(t, cn_scene_shape_name(o->shape));
}

static bool ends_in_posture(const cn_scene_object *o, const wording *w)
{
    return o->shape == CN_SHAPE_PERSON && w->postures &&
           (o->posture != CN_POSTURE_STANDING || forms[w->form].say_all);
}

/* The subject, the relation, the target; or from the target's side. */
static void append_pair(text *t, const cn_scene *s, const wording *w)
{
    static const char *const inverse[CN_RELATION_COUNT] = {
        "and", "to the right of", "to the left of", "behind", "in front of", "under"};
    const bool turned = w->telling == TELL_INVERSE;
    const cn_scene_object *a = &s->objects[turned ? s->target : s->subject];
    const cn_scene_object *b = &s->objects[turned ? s->subject : s->target];
    append_object(t, a, w);
    append(t, ends_in_posture(a, w) ? ", " : " ");
    append_word(t, turned ? inverse[s->relation] : cn_scene_relation_name(s->relation));
    append_object(t, b, w);
}

static void append_objects(text *t, const cn_scene *s, const wording *w)
{
    const bool paired = s->relation != CN_RELATION_NONE && w->telling != TELL_LIST;
    const int n = s->n_objects - (paired ? 1 : 0);
    for (int i = 0, told = 0; i < s->n_objects; i++) {
        if (paired && i == s->target) continue;
        /* After ", waving" an "and" alone would bind too closely. */
        if (told > 0)
            append(t, told + 1 < n                             ? ", "
                      : ends_in_posture(&s->objects[i - 1], w) ? ", and "
                                                               : " and ");
        if (paired && i == s->subject)
            append_pair(t, s, w);
        else
            append_object(t, &s->objects[i], w);
        told++;
    }
}

static void tell(const cn_scene *s, const wording *w, char *out, size_t cap)
{
    text t = {out, 0, cap};
    out[0] = 0;
    for (const char *p = forms[w->form].text; *p; p++) {
        if (p[0] != '%') {
            append(&t, (char[]){*p, 0});
            continue;
        }
        p++;
        if (*p == 'O') append_objects(&t, s, w);
        if (*p == 'G') append(&t, cn_scene_ground_name(s->ground));
        if (*p == 'S') append(&t, cn_scene_sky_name(s->sky));
    }
}

static int count_words(const char *s)
{
    int n = *s != 0;
    for (; *s; s++) n += *s == ' ' || *s == ',';
    return n;
}

void cn_scene_caption(const cn_scene *scene, int form, char *out, size_t cap)
{
    if (cap == 0) return;
    const int count = cn_scene_caption_count(), f = (form % count + count) % count;
    wording w = {f % FORMS, f / FORMS, true};
    tell(scene, &w, out, cap);
    if (count_words(out) > CN_CAPTION_WORDS) {
        w.form = ONLY_OBJECTS;
        tell(scene, &w, out, cap);
    }
    if (count_words(out) > CN_CAPTION_WORDS) {
        w.postures = false;
        tell(scene, &w, out, cap);
    }
}
