/* SPDX-License-Identifier: Apache-2.0 */
/* mannequin.c - people of capsules and balls, posed by the directions of their limbs.
 *
 * The body's frame: x to the person's left, y up, z forward; a person of yaw 0 faces the camera. A
 * limb's direction is a lift from hanging down (0) to straight up (pi) and the side it is lifted
 * to: 0 outwards, pi/2 forward, pi across the body, -pi/2 backward. Lengths are in units of the
 * person's height.
 */
#include "scene/parts.h"

typedef struct limb {
    float lift, side;
} limb;

/* Right arm, right leg, left arm, left leg: upper and lower half of each. */
typedef struct stance {
    limb limbs[8];
    float lean; /* of the trunk, forward */
    float hop;  /* how far the lowest point is above the ground */
} stance;

#define FWD  1.57f
#define BACK (-1.57f)

static const stance stances[CN_POSTURE_COUNT] = {
    [CN_POSTURE_STANDING] = {{{0.20f, 0},
                              {0.14f, 0.9f},
                              {0.08f, 0},
                              {0.05f, 0},
                              {0.20f, 0},
                              {0.14f, 0.9f},
                              {0.08f, 0},
                              {0.05f, 0}},
                             0,
                             0},
    [CN_POSTURE_ARMS_RAISED] = {{{2.62f, 0},
                                 {2.92f, 0.2f},
                                 {0.10f, 0},
                                 {0.07f, 0},
                                 {2.62f, 0},
                                 {2.92f, 0.2f},
                                 {0.10f, 0},
                                 {0.07f, 0}},
                                0,
                                0},
    [CN_POSTURE_ARMS_OUT] = {{{1.57f, 0},
                              {1.57f, 0},
                              {0.12f, 0},
                              {0.08f, 0},
                              {1.57f, 0},
                              {1.57f, 0},
                              {0.12f, 0},
                              {0.08f, 0}},
                             0,
                             0},
    [CN_POSTURE_WAVING] = {{{1.75f, 0},
                            {2.75f, 0.1f},
                            {0.09f, 0},
                            {0.06f, 0},
                            {0.22f, 0},
                            {0.15f, 0.9f},
                            {0.09f, 0},
                            {0.06f, 0}},
                           0,
                           0},
    [CN_POSTURE_HANDS_ON_HIPS] = {{{0.78f, -0.3f},
                                   {0.75f, 2.75f},
                                   {0.14f, 0},
                                   {0.10f, 0},
                                   {0.78f, -0.3f},
                                   {0.75f, 2.75f},
                                   {0.14f, 0},
                                   {0.10f, 0}},
                                  0,
                                  0},
    [CN_POSTURE_POINTING] = {{{1.50f, 0.25f},
                              {1.55f, 0.3f},
                              {0.12f, 0},
                              {0.08f, 0},
                              {0.25f, 0},
                              {0.25f, 1.0f},
                              {0.12f, 0.4f},
                              {0.08f, 0}},
                             0,
                             0},
    [CN_POSTURE_WALKING] = {{{0.50f, BACK},
                             {0.15f, BACK},
                             {0.50f, FWD},
                             {0.12f, FWD},
                             {0.50f, FWD},
                             {0.95f, FWD},
                             {0.35f, BACK},
                             {0.80f, BACK}},
                            0.06f,
                            0},
    [CN_POSTURE_RUNNING] = {{{0.95f, BACK},
                             {0.50f, FWD},
                             {1.15f, FWD},
                             {0.30f, BACK},
                             {0.70f, FWD},
                             {2.10f, FWD},
                             {0.50f, BACK},
                             {1.55f, BACK}},
                            0.22f,
                            0},
    [CN_POSTURE_SITTING] = {{{0.55f, BACK},
                             {0.20f, BACK},
                             {2.05f, 1.3f},
                             {0.75f, FWD},
                             {0.55f, BACK},
                             {0.20f, BACK},
                             {2.05f, 1.3f},
                             {0.75f, FWD}},
                            -0.12f,
                            0},
    [CN_POSTURE_KNEELING] = {{{0.35f, 0.3f},
                              {0.95f, 1.9f},
                              {1.45f, FWD},
                              {0.05f, BACK},
                              {0.35f, 0.3f},
                              {0.80f, 1.7f},
                              {0.10f, BACK},
                              {1.50f, BACK}},
                             0.08f,
                             0},
    [CN_POSTURE_JUMPING] = {{{2.30f, 0},
                             {2.45f, 0},
                             {0.62f, 0},
                             {0.45f, 0},
                             {2.30f, 0},
                             {2.45f, 0},
                             {0.62f, 0},
                             {0.45f, 0}},
                            0,
                            0.13f},
    [CN_POSTURE_DANCING] = {{{2.50f, 0},
                             {2.75f, 2.6f},
                             {0.12f, 0},
                             {0.05f, 0},
                             {1.45f, 0},
                             {1.10f, 0.5f},
                             {0.95f, 0.6f},
                             {0.75f, 2.9f}},
                            0,
                            0},
};

typedef struct body {
    cn_object *o;
    float height; /* in units of the object's size */
    bool mirrored;
    vec3 skin, hair, shoes;
} body;

/* --- chance ---------------------------------------------------------------------------------- */

static uint32_t scramble(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/* Number `which` that follows from the variant, -1..1. */
static float wobble(uint32_t variant, uint32_t which)
{
    return (float)(scramble(variant + which * 0x9e3779b9u) >> 8) * 0x1p-23f - 1;
}

static vec3 tone(uint32_t variant, uint32_t which, const vec3 *from, int n)
{
    return from[scramble(variant + which * 0x9e3779b9u) % (uint32_t)n];
}

/* --- pieces ---------------------------------------------------------------------------------- */

/* The body looks towards -z of the object's frame; its left is the frame's +x. */
static vec3 place(const body *b, vec3 p)
{
    return cn_object_to_world(b->o, vscale(v3(b->mirrored ? -p.x : p.x, p.y, -p.z), b->height));
}

static cn_part *capsule(const body *b, vec3 from, vec3 to, float radius)
{
    return cn_add_capsule(b->o, place(b, from), place(b, to), radius * b->height * b->o->size);
}

static void plain(const body *b, vec3 from, vec3 to, float radius, vec3 colour)
{
    cn_part *p = capsule(b, from, to, radius);
    if (!p) return;
    p->paint = CN_PAINT_PLAIN;
    p->colour = colour;
}

static void cloth(const body *b, vec3 from, vec3 to, float radius, bool trousers)
{
    cn_part *p = capsule(b, from, to, radius);
    if (p && trousers) p->paint = CN_PAINT_TROUSERS;
}

static vec3 direction(limb l, float left)
{
    const float s = cn_sine(l.lift);
    return v3(s * cn_cosine(l.side) * left, -cn_cosine(l.lift), s * cn_sine(l.side));
}

/* --- the body -------------------------------------------------------------------------------- */

/* Points of the skeleton; index 0 is the right side, 1 the left. */
typedef struct skeleton {
    vec3 pelvis, chest, neck, head, up, forward;
    vec3 shoulder[2], elbow[2], wrist[2], hip[2], knee[2], ankle[2], toe[2];
} skeleton;

static void set_skeleton(const stance *st, uint32_t variant, skeleton *k)
{
    limb l[8];
    for (uint32_t i = 0; i < 8; i++) {
        l[i].lift = st->limbs[i].lift + 0.09f * wobble(variant, 10 + i);
        l[i].side = st->limbs[i].side + 0.12f * wobble(variant, 20 + i);
    }
    const float lean = st->lean + 0.04f * wobble(variant, 30);
    k->up = v3(0, cn_cosine(lean), cn_sine(lean));
    k->forward = v3(0, -k->up.z, k->up.y);
    k->pelvis = v3(0, 0, 0);
    k->chest = vscale(k->up, 0.22f);
    k->neck = vscale(k->up, 0.325f);
    k->head = vmad(vscale(k->up, 0.425f), k->forward, 0.012f);
    for (int s = 0; s < 2; s++) {
        const float left = s ? 1.0f : -1.0f;
        const limb *m = l + 4 * s;
        k->shoulder[s] = vadd(vscale(k->up, 0.295f), v3(0.112f * left, 0, 0));
        k->elbow[s] = vmad(k->shoulder[s], direction(m[0], left), 0.165f);
        k->wrist[s] = vmad(k->elbow[s], direction(m[1], left), 0.155f);
        k->hip[s] = v3(0.060f * left, -0.02f, 0);
        k->knee[s] = vmad(k->hip[s], direction(m[2], left), 0.235f);
        k->ankle[s] = vmad(k->knee[s], direction(m[3], left), 0.225f);
        /* At right angles to the shin, forward where that can be told. */
        const vec3 shin = direction(m[3], left);
        const vec3 ahead = vmad(v3(0.25f * left, 0, 1), shin, -vdot(v3(0.25f * left, 0, 1), shin));
        k->toe[s] = vmad(k->ankle[s], vunit(ahead), 0.075f);
    }
}

static const float FOOT = 0.042f, HAND = 0.036f, HEAD = 0.082f;

static float lowest(const skeleton *k)
{
    float y = k->pelvis.y - 0.096f;
    for (int s = 0; s < 2; s++) {
        y = least(y, least(k->ankle[s].y, k->toe[s].y) - FOOT);
        y = least(y, k->knee[s].y - 0.060f);
        y = least(y, k->wrist[s].y - HAND);
    }
    return y;
}

static void raise(skeleton *k, float by)
{
    k->pelvis.y += by;
    k->chest.y += by;
    k->neck.y += by;
    k->head.y += by;
    vec3 *const pairs[] = {k->shoulder, k->elbow, k->wrist, k->hip, k->knee, k->ankle, k->toe};
    for (size_t i = 0; i < CN_COUNT(pairs); i++)
        for (int s = 0; s < 2; s++) pairs[i][s].y += by;
}

static void build_trunk(const body *b, const skeleton *k)
{
    const vec3 waist = vmad(k->pelvis, k->up, 0.06f), side = v3(0.050f, 0, 0);
    for (int s = 0; s < 2; s++) {
        const vec3 out = vscale(side, s ? 1.0f : -1.0f);
        cloth(b, vadd(waist, out), vadd(vmad(k->pelvis, k->up, 0.255f), vscale(out, 1.15f)), 0.072f,
              false);
    }
    cloth(b, waist, vmad(k->pelvis, k->up, 0.25f), 0.080f, false);
    cloth(b, k->shoulder[0], k->shoulder[1], 0.050f, false);
    cloth(b, k->hip[0], k->hip[1], 0.076f, true);
    plain(b, k->neck, k->head, 0.036f, b->skin);
    cn_part *head = capsule(b, k->head, vmad(k->head, k->up, 0.02f), HEAD);
    if (!head) return;
    head->paint = CN_PAINT_HEAD;
    head->colour = b->skin;
    head->second = b->hair;
    head->axis = vsub(place(b, k->forward), place(b, v3(0, 0, 0)));
    head->axis = vunit(head->axis);
    head->axis_point = vunit(vsub(place(b, k->up), place(b, v3(0, 0, 0))));
}

static void build_limbs(const body *b, const skeleton *k, bool long_sleeves, bool shorts)
{
    for (int s = 0; s < 2; s++) {
        cloth(b, k->shoulder[s], k->elbow[s], 0.043f, false);
        if (long_sleeves)
            cloth(b, k->elbow[s], k->wrist[s], 0.037f, false);
        else
            plain(b, k->elbow[s], k->wrist[s], 0.034f, b->skin);
        plain(b, k->wrist[s], vmad(k->wrist[s], vunit(vsub(k->wrist[s], k->elbow[s])), 0.02f), HAND,
              b->skin);
        cloth(b, k->hip[s], k->knee[s], 0.060f, true);
        /* Not as far as the ankle, where the shoe would vanish in it. */
        const vec3 end = vmix(k->knee[s], k->ankle[s], 0.86f);
        if (shorts)
            plain(b, k->knee[s], end, 0.042f, b->skin);
        else
            cloth(b, k->knee[s], end, 0.047f, true);
        plain(b, k->ankle[s], k->toe[s], FOOT, b->shoes);
    }
}

/* OpenPose's 18 key points; right and left are the person's, also of a mirrored one. */
static void set_joints(const body *b, const skeleton *k, vec3 joints[18])
{
    const int right = b->mirrored ? 1 : 0, left = 1 - right;
    joints[0] = place(b, vmad(vmad(k->head, k->forward, HEAD), k->up, -0.01f));
    joints[1] = place(b, vscale(vadd(k->shoulder[0], k->shoulder[1]), 0.5f));
    const vec3 *const of[6] = {k->shoulder, k->elbow, k->wrist, k->hip, k->knee, k->ankle};
    for (int i = 0; i < 6; i++) {
        const int first = i < 3 ? 2 + i : 5 + i;
        joints[first] = place(b, of[i][right]);
        joints[first + 3] = place(b, of[i][left]);
    }
    for (int s = 0; s < 2; s++) {
        const float out = (s == 0) != b->mirrored ? -1.0f : 1.0f;
        const vec3 eye = vmad(vmad(k->head, k->forward, 0.070f), k->up, 0.018f);
        joints[14 + s] = place(b, vadd(eye, v3(0.032f * out, 0, 0)));
        joints[16 + s] = place(b, vadd(k->head, v3(HEAD * out, 0, 0)));
    }
}

void cn_mannequin_build(const cn_scene_object *object, cn_object *o)
{
    static const vec3 skins[] = {{0.86f, 0.62f, 0.48f},
                                 {0.74f, 0.46f, 0.32f},
                                 {0.52f, 0.28f, 0.17f},
                                 {0.27f, 0.135f, 0.08f},
                                 {0.13f, 0.065f, 0.042f}};
    static const vec3 hairs[] = {{0.018f, 0.014f, 0.013f},
                                 {0.07f, 0.035f, 0.018f},
                                 {0.20f, 0.10f, 0.04f},
                                 {0.62f, 0.42f, 0.16f},
                                 {0.42f, 0.42f, 0.43f}};
    static const vec3 shoes[] = {
        {0.02f, 0.02f, 0.022f}, {0.10f, 0.05f, 0.028f}, {0.75f, 0.75f, 0.75f}};
    const uint32_t v = object->variant;
    body b = {.o = o, .height = 2.5f * object->aspect, .mirrored = v & 1};
    b.skin = tone(v, 1, skins, (int)CN_COUNT(skins));
    b.hair = tone(v, 2, hairs, (int)CN_COUNT(hairs));
    b.shoes = tone(v, 3, shoes, (int)CN_COUNT(shoes));
    const stance *st = &stances[object->posture];
    skeleton k;
    set_skeleton(st, v, &k);
    raise(&k, st->hop - lowest(&k));
    build_trunk(&b, &k);
    build_limbs(&b, &k, v & 2, (v & 12) == 12);
    set_joints(&b, &k, o->joints);
    for (int s = 0; s < 2; s++)
        o->blobs[o->n_blobs++] = (cn_blob){place(&b, k.ankle[s]), 0.07f * b.height * o->size};
    o->blobs[o->n_blobs++] = (cn_blob){place(&b, k.pelvis), 0.15f * b.height * o->size};
}
