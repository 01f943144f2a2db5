/* SPDX-License-Identifier: Apache-2.0 */
/* keypoints.c - where people's joints lie in the picture and which are seen, drawn as
 * OpenPose's. */
#include "scene/canvas.h"

#include "annotate/pose/pose.h"

/* How far a surface may lie before a joint that it belongs to, in units of the person's height:
 * trunk and limbs hold theirs inside, the face's points lie on it. */
static const float BODY_DEPTH = 0.11f, FACE_DEPTH = 0.045f;
enum { FIRST_EYE = 14 };

static void find_figure(const cn_canvas *c, int object, cn_scene_figure *f)
{
    const cn_stage *st = c->stage;
    const cn_object *o = &st->objects[object];
    const float half = 0.5f * (float)st->size;
    const float height = 2.5f * c->scene->objects[object].aspect * o->size;
    *f = (cn_scene_figure){.object = object};
    for (int k = 0; k < CN_SCENE_KEY_POINTS; k++) {
        const bool face = k == 0 || k >= FIRST_EYE;
        const vec3 d = vsub(o->joints[k], st->camera.pos);
        const float z = vdot(d, st->camera.forward);
        if (z < 0.1f) continue;
        const float inv = half / (z * st->camera.tan_half_fov);
        f->x[k] = half + vdot(d, st->camera.right) * inv;
        f->y[k] = half - vdot(d, st->camera.up) * inv;
        const int x = (int)round_down(f->x[k]), y = (int)round_down(f->y[k]);
        if (x < 0 || y < 0 || x >= st->size || y >= st->size) continue;
        const float before = z - c->samples[cn_canvas_index(c, x, y)].t;
        f->seen[k] = before < (face ? FACE_DEPTH : BODY_DEPTH) * height;
    }
}

int cn_find_key_points(const cn_canvas *c, cn_scene_figure out[CN_SCENE_MAX_OBJECTS])
{
    int n = 0;
    for (int i = 0; i < c->scene->n_objects; i++)
        if (c->scene->objects[i].shape == CN_SHAPE_PERSON) find_figure(c, i, &out[n++]);
    return n;
}

cn_status cn_key_points_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    cn_scene_figure figures[CN_SCENE_MAX_OBJECTS];
    cn_pose_peak peaks[CN_SCENE_MAX_OBJECTS * CN_SCENE_KEY_POINTS];
    cn_pose_person people[CN_SCENE_MAX_OBJECTS];
    cn_pose pose = {.height = out->height, .width = out->width, .peaks = peaks, .people = people};
    pose.n_people = cn_find_key_points(c, figures);
    for (int64_t i = 0; i < pose.n_people; i++) {
        people[i] = (cn_pose_person){.score = 1};
        for (int k = 0; k < CN_SCENE_KEY_POINTS; k++) {
            const cn_scene_figure *f = &figures[i];
            people[i].part[k] = f->seen[k] ? pose.n_peaks : -1;
            people[i].count += f->seen[k];
            if (f->seen[k])
                peaks[pose.n_peaks++] =
                    (cn_pose_peak){(int64_t)round_down(f->x[k]), (int64_t)round_down(f->y[k]), 1};
        }
    }
    cn_image *drawn = NULL;
    /* The published drawings have disks of 4 pixels in pictures of 512. */
    const cn_pose_drawing d = {
        .version = CN_POSE_V11, .pose = &pose, .radius = CN_MAX(1, CN_MIN(4, out->width / 85))};
    CN_TRY(cn_pose_draw(ctx, &d, &drawn));
    memcpy(out->rgb, drawn->rgb, (size_t)(out->width * out->height * 3));
    cn_image_destroy(drawn);
    return CN_OK;
}

cn_status cn_scene_key_points(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                              cn_scene_figure out[CN_SCENE_MAX_OBJECTS], int *n)
{
    cn_canvas c;
    CN_TRY(cn_scene_check(ctx, scene, size_px));
    const cn_status s = cn_canvas_create(ctx, (int)size_px, 0, &c);
    if (s == CN_OK) {
        cn_canvas_trace(&c, scene, (int)size_px);
        *n = cn_find_key_points(&c, out);
    }
    cn_canvas_destroy(&c);
    return s;
}
