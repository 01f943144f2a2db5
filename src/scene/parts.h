/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h - what objects are made of, and where rays meet it. Internal to src/scene.
 *
 * An object is a handful of convex parts in world space: capsules (a sphere is one of length 0;
 * rings and knots are chains of them), upright frusta and polyhedra of at most six planes. Every
 * part is met in closed form.
 */
#ifndef CN_SCENE_PARTS_H
#define CN_SCENE_PARTS_H

#include "scene/geometry.h"
#include "scene/scene.h"

enum { CN_PART_PLANES = 6, CN_PART_CORNERS = 8, CN_OBJECT_PARTS = 96 };

typedef enum cn_part_kind { CN_PART_CAPSULE, CN_PART_FRUSTUM, CN_PART_POLYHEDRON } cn_part_kind;

/* How a part's surface is coloured, see surface.c. */
typedef enum cn_part_paint {
    CN_PAINT_MATERIAL, /* the object's colour and material */
    CN_PAINT_PLAIN,    /* the part's own colour, matte */
    CN_PAINT_WALL,     /* the object's colour, with a door and windows */
    CN_PAINT_ROOF,     /* a darker tone of it */
    CN_PAINT_TROUSERS, /* the object's second colour */
    CN_PAINT_HEAD /* skin with two eyes, hair above and behind: `axis` is ahead, `axis_point` up */
} cn_part_paint;

typedef struct cn_part {
    int kind, paint;
    vec3 colour, second; /* linear; of CN_PAINT_PLAIN and CN_PAINT_HEAD (skin, hair) */
    /* A capsule's ends and radius; a frustum's centre of the bottom (a), of the top (b), and radii.
     */
    vec3 a, b;
    float radius, top_radius;
    /* A chain's link: tangents of the curve at both ends, by which normals follow the curve instead
     * of the links, and how far along the curve they are. Tangents are 0 elsewhere. */
    vec3 tangent_a, tangent_b;
    float along_a, along_b;
    /* Inside is normal . p <= offset for all planes. */
    int n_planes, n_corners;
    vec3 normal[CN_PART_PLANES], corner[CN_PART_CORNERS];
    float offset[CN_PART_PLANES];
    /* The first two planes stand for a cylinder's outside and inside about this axis, when round.
     */
    bool round;
    vec3 axis_point, axis;
    vec3 centre; /* of a ball that holds the part, with its radius */
    float reach;
} cn_part;

/* A ball as which an object darkens what is near. */
typedef struct cn_blob {
    vec3 centre;
    float radius;
} cn_blob;

enum { CN_OBJECT_BLOBS = 3 };

typedef struct cn_object {
    int n_parts, n_blobs;
    cn_part parts[CN_OBJECT_PARTS];
    cn_blob blobs[CN_OBJECT_BLOBS];
    vec3 base; /* the frame of its own coordinates: origin, turn, unit */
    float cos_yaw, sin_yaw, size;
    float top;            /* height of its highest point above the base */
    float flat_x, flat_z; /* half extents of a flat top on which others can stand, or 0 */
    float radius;         /* of the upright cylinder about the base that holds it */
    vec3 joints[18];      /* of a person: OpenPose's key points */
} cn_object;

typedef struct cn_camera {
    vec3 pos, right, up, forward;
    float tan_half_fov;
} cn_camera;

/* The parts of an object, from shapes.c. */
void cn_object_build(const cn_scene_object *object, cn_object *out);
/* From the object's own frame, in units of its size, and back. */
vec3 cn_object_to_world(const cn_object *o, vec3 p);
vec3 cn_object_to_local(const cn_object *o, vec3 p);
vec3 cn_object_turn_local(const cn_object *o, vec3 direction);

/* mannequin.c: adds a person's parts and fills the joints. */
void cn_mannequin_build(const cn_scene_object *object, cn_object *out);

/* Adding parts; points are in world space. Past CN_OBJECT_PARTS nothing is added. NULL then. */
cn_part *cn_add_capsule(cn_object *o, vec3 a, vec3 b, float radius);
cn_part *cn_add_frustum(cn_object *o, vec3 bottom, float height, float radius, float top_radius);
/* A hexahedron, wedge or pyramid by corners (any number up to 8) and faces of three corner indices
 * each, in any order of turning. */
cn_part *cn_add_polyhedron(cn_object *o, const vec3 *corners, int n_corners,
                           const unsigned char (*faces)[3], int n_faces);

void cn_camera_init(const cn_scene *scene, cn_camera *out);
/* Screen bounds of the part, -1..1 with y up: {x0, y0, x1, y1}. False when it reaches behind the
 * camera. */
bool cn_part_bounds(const cn_part *part, const cn_camera *camera, float box[4]);
/* The same of a whole object. */
bool cn_object_bounds(const cn_object *o, const cn_camera *camera, float box[4]);

#endif
