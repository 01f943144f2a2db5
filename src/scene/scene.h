/* SPDX-License-Identifier: Apache-2.0 */
/* scene.h - procedural scenes: a caption, its picture, and the exact maps a ControlNet can be
 * conditioned on.
 *
 * A scene is one to three objects (solids, small buildings, people) of named colours and materials
 * on a plain ground under a sky, lit by one directional light. cn_scene_generate draws the
 * description from (seed, index) alone; rendering a description is single-threaded and gives the
 * same bytes on every machine, so callers may render scenes side by side. Where an object stands
 * says nothing about its colour: colours are drawn apart from the geometry. What a caption says is
 * true of the picture: objects are seen nearly whole, a relation is told only where it is plain to
 * see.
 *
 * World space: metres, y up, ground at y = 0, camera at (0, camera_height, 0) looking along +z and
 * down by camera_pitch. Camera space (normals): x right, y up, z towards the viewer. Depth is the
 * distance along the viewing axis.
 */
#ifndef CN_SCENE_H
#define CN_SCENE_H

#include "base/base.h"
#include "image/image.h"

enum { CN_SCENE_MAX_OBJECTS = 3, CN_SCENE_MIN_PX = 16, CN_SCENE_MAX_PX = 4096 };

typedef enum cn_scene_shape {
    CN_SHAPE_SPHERE,
    CN_SHAPE_CUBE,
    CN_SHAPE_CYLINDER,
    CN_SHAPE_CONE,
    CN_SHAPE_RING,
    CN_SHAPE_PYRAMID,
    CN_SHAPE_TORUS_KNOT,
    CN_SHAPE_ARCH,
    CN_SHAPE_STAIRS,
    CN_SHAPE_TREE,
    CN_SHAPE_HOUSE,
    CN_SHAPE_TABLE,
    CN_SHAPE_PERSON,
    CN_SHAPE_COUNT
} cn_scene_shape;

typedef enum cn_scene_colour {
    CN_COLOUR_RED,
    CN_COLOUR_ORANGE,
    CN_COLOUR_YELLOW,
    CN_COLOUR_GREEN,
    CN_COLOUR_CYAN,
    CN_COLOUR_BLUE,
    CN_COLOUR_PURPLE,
    CN_COLOUR_PINK,
    CN_COLOUR_WHITE,
    CN_COLOUR_BLACK,
    CN_COLOUR_COUNT
} cn_scene_colour;

typedef enum cn_scene_material {
    CN_MATERIAL_MATTE,
    CN_MATERIAL_SHINY,
    CN_MATERIAL_METALLIC,
    CN_MATERIAL_STRIPED, /* the named colour and white; white with grey */
    CN_MATERIAL_CHECKERED,
    CN_MATERIAL_DOTTED,
    CN_MATERIAL_COUNT
} cn_scene_material;

typedef enum cn_scene_ground {
    CN_GROUND_GREEN,
    CN_GROUND_BROWN,
    CN_GROUND_GREY,
    CN_GROUND_WHITE,
    CN_GROUND_YELLOW,
    CN_GROUND_BLUE,
    CN_GROUND_PINK,
    CN_GROUND_COUNT
} cn_scene_ground;

typedef enum cn_scene_sky {
    CN_SKY_BLUE,
    CN_SKY_SUNSET,
    CN_SKY_NIGHT,
    CN_SKY_GREY,
    CN_SKY_COUNT
} cn_scene_sky;

typedef enum cn_scene_posture {
    CN_POSTURE_STANDING,
    CN_POSTURE_ARMS_RAISED,
    CN_POSTURE_ARMS_OUT,
    CN_POSTURE_WAVING,
    CN_POSTURE_HANDS_ON_HIPS,
    CN_POSTURE_POINTING,
    CN_POSTURE_WALKING,
    CN_POSTURE_RUNNING,
    CN_POSTURE_SITTING,
    CN_POSTURE_KNEELING,
    CN_POSTURE_JUMPING,
    CN_POSTURE_DANCING,
    CN_POSTURE_COUNT
} cn_scene_posture;

/* Of one object to another, as the viewer sees it. */
typedef enum cn_scene_relation {
    CN_RELATION_NONE,
    CN_RELATION_LEFT_OF,
    CN_RELATION_RIGHT_OF,
    CN_RELATION_IN_FRONT_OF,
    CN_RELATION_BEHIND,
    CN_RELATION_ON,
    CN_RELATION_COUNT
} cn_scene_relation;

typedef struct cn_scene_object {
    int shape, colour, material; /* a person's colour is the shirt's, its material matte */
    float x, y, z;               /* where it stands; y > 0 on another object */
    float size;                  /* about half its width and height */
    float aspect;                /* height over the shape's usual height */
    float yaw;                   /* turn about y, radians */
    uint32_t variant;            /* decides what has no name: a pose's angles, hair, branches */
    int trousers, posture;       /* of a person: a colour and a cn_scene_posture */
} cn_scene_object;

typedef struct cn_scene {
    int n_objects;
    cn_scene_object objects[CN_SCENE_MAX_OBJECTS]; /* from left to right in the picture */
    int ground, sky;
    float camera_height, camera_pitch, tan_half_fov;
    float light_azimuth, light_elevation; /* radians; azimuth 0 is behind the camera */
    int relation; /* of objects[subject] to objects[target], which captions may tell */
    int subject, target;
    char caption[256];
} cn_scene;

/* Names as captions say them; NULL out of range. */
const char *cn_scene_shape_name(int shape);
int cn_scene_shape_find(const char *name); /* -1 for an unknown name */
const char *cn_scene_colour_name(int colour);
const char *cn_scene_material_name(int material);
const char *cn_scene_ground_name(int ground);
const char *cn_scene_sky_name(int sky);
const char *cn_scene_posture_name(int posture);   /* "arms raised" */
const char *cn_scene_relation_name(int relation); /* "left of"; "and" for none */
/* The object colour as sRGB, before light falls on it. */
void cn_scene_colour_rgb(int colour, uint8_t rgb[3]);
/* False for the pairs that generated scenes avoid because the object would vanish (white on white
 * ground, black under a night sky). Indices must be in range. */
bool cn_scene_allowed(int colour, int ground, int sky);

/* Scene `index` of the endless sequence `seed`: one object in 50 of 100, two in 35, three in 15. */
void cn_scene_generate(uint64_t seed, uint64_t index, cn_scene *out);
/* Of another sequence, whose scenes all have an object of this shape; of cn_scene_generate's for an
 * index out of range. */
void cn_scene_generate_with(uint64_t seed, uint64_t index, int shape, cn_scene *out);
/* Simple scenes: the first CN_SCENE_SIMPLE_SHAPES shapes without patterns, none on or before
 * another. About one scene in six is. */
enum { CN_SCENE_SIMPLE_SHAPES = CN_SHAPE_PYRAMID + 1, CN_SCENE_SIMPLE_TRIES = 64 };
bool cn_scene_is_simple(const cn_scene *scene);
/* The first simple scene from `index` on, of CN_SCENE_SIMPLE_TRIES at most, in caption form 0. */
void cn_scene_generate_simple(uint64_t seed, uint64_t index, cn_scene *out);
/* The same with a fixed number of objects, 1 to 3 (clamped). */
void cn_scene_generate_n(uint64_t seed, uint64_t index, int n_objects, cn_scene *out);
/* One object with everything named chosen and the rest drawn from the seed; the caption is form 0.
 * CN_EINVAL for an index out of range. Pairs that aren't allowed are not refused. */
cn_status cn_scene_prompt(cn_ctx *ctx, int shape, int colour, int material, int ground, int sky,
                          uint64_t seed, cn_scene *out) CN_CHECKED;

enum { CN_SCENE_ANY = -1 };
/* What a scene must have; CN_SCENE_ANY leaves a field to the seed. */
typedef struct cn_scene_request {
    int n_objects; /* 1 to 3 */
    struct {
        int shape, colour, material, trousers, posture;
    } objects[CN_SCENE_MAX_OBJECTS];
    int ground, sky;
    int relation; /* of the first object to the second; CN_SCENE_ANY with other than two objects */
} cn_scene_request;

void cn_scene_request_init(int n_objects, cn_scene_request *out); /* all CN_SCENE_ANY */
/* The caption is form 0, which tells the relation. objects[] of the scene are ordered by place, so
 * the first object asked for is objects[subject] where a relation was asked for. CN_EINVAL for an
 * index out of range, or a relation that its shapes can't have (a house on a cone). */
cn_status cn_scene_compose(cn_ctx *ctx, const cn_scene_request *request, uint64_t seed,
                           cn_scene *out) CN_CHECKED;

/* Forms in which the same scene can be told; form 0 is "a shiny red cube on green ground under a
 * blue sky". `form` is taken modulo the count; out is always terminated. At most CN_CAPTION_WORDS
 * words and commas: where a form has more, the ground and sky are left out, then poses. */
enum { CN_CAPTION_WORDS = 30 };
int cn_scene_caption_count(void);
void cn_scene_caption(const cn_scene *scene, int form, char *out, size_t cap);

/* What to render: each buffer is the caller's, or NULL when not wanted. P = size_px, rows from the
 * top. */
typedef struct cn_scene_maps {
    uint8_t *rgb;          /* [P,P,3], anti-aliased */
    float *depth;          /* [P,P] at pixel centres, metres; infinity for the sky */
    float *normal;         /* [P,P,3] at pixel centres, camera space, unit length; 0 for the sky */
    uint8_t *segmentation; /* [P,P] 0 sky, 1 ground, 2 + i object i */
    uint8_t *edges; /* [P,P] 255 where segment, depth or normal jumps to the right or below */
} cn_scene_maps;

cn_status cn_scene_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                          const cn_scene_maps *out) CN_CHECKED;
/* n scenes over the context's threads; every buffer holds n pictures one after the other. */
cn_status cn_scene_render_batch(cn_ctx *ctx, const cn_scene *scenes, int64_t n, int64_t size_px,
                                const cn_scene_maps *out) CN_CHECKED;

/* The named colour of the object in a picture of H x W x 3, or -1 when none stands out. With a
 * segmentation [H,W] the largest segment >= 2 is looked at; without one, what differs from the
 * row's left and right borders and isn't a shadow of them, the middle counting more. */
int cn_scene_judge_colour(const uint8_t *rgb, int64_t width, int64_t height,
                          const uint8_t *segmentation);

typedef enum cn_scene_condition {
    CN_CONDITION_EDGES,        /* white lines on black */
    CN_CONDITION_DEPTH,        /* inverse depth: near is bright, the sky black */
    CN_CONDITION_NORMAL,       /* (n + 1) / 2 */
    CN_CONDITION_SEGMENTATION, /* classes in ADE20K's colours */
    CN_CONDITION_LINES,        /* straight edges, white on black, as M-LSD draws them */
    CN_CONDITION_SOFTEDGE,     /* blurred edges, the stronger the brighter */
    CN_CONDITION_SCRIBBLE,     /* synthesised from soft edges; chance follows from the scene */
    CN_CONDITION_POSE,         /* people in OpenPose's colours */
    CN_CONDITION_CARTOON,      /* the outlines of the toon rendering, white on black */
    CN_CONDITION_TOON,         /* flat colours in light and shadow, dark outlines */
    CN_CONDITION_COUNT
} cn_scene_condition;

/* "edges", "depth", ... as above in small letters; NULL out of range, and -1 for an unknown
 * name. */
const char *cn_scene_condition_name(int condition);
int cn_scene_condition_find(const char *name);
/* All names in words, for messages: "edges, depth, ...". */
void cn_scene_condition_list(cn_str *out);
/* Picture and condition as RGB [P,P,3] each; either may be NULL. */
cn_status cn_scene_condition_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                                    cn_scene_condition condition, uint8_t *rgb,
                                    uint8_t *condition_rgb) CN_CHECKED;
/* n conditions of one scene into rgb[n][P,P,3]; those that look at the same samples trace them
 * once. */
cn_status cn_scene_conditions_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px, int n,
                                     const int *which, uint8_t *const *rgb) CN_CHECKED;

/* What a segment shows: sky, ground, or a shape. */
enum {
    CN_CLASS_SKY,
    CN_CLASS_GROUND,
    CN_CLASS_SHAPES,
    CN_SCENE_CLASSES = CN_CLASS_SHAPES + CN_SHAPE_COUNT
};
/* The class of a value of cn_scene_maps.segmentation, which must be one of the scene's. */
int cn_scene_class(const cn_scene *scene, int segment);
/* Its colour in the segmentation condition; class in range. */
void cn_scene_class_rgb(int class, uint8_t rgb[3]);

enum { CN_SCENE_KEY_POINTS = 18 };
/* A person's key points in OpenPose's order (annotate/pose/pose.h), in pixels. Unseen: out of the
 * picture, or behind an object or the person's own body. */
typedef struct cn_scene_figure {
    int object;
    bool seen[CN_SCENE_KEY_POINTS];
    float x[CN_SCENE_KEY_POINTS], y[CN_SCENE_KEY_POINTS];
} cn_scene_figure;

/* *n people, from left to right. */
cn_status cn_scene_key_points(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                              cn_scene_figure out[CN_SCENE_MAX_OBJECTS], int *n) CN_CHECKED;

/* Fills `condition` (same size, allocated by the caller) from picture `index`. Called on several
 * threads, unless it is to be alone. */
typedef cn_status (*cn_scene_condition_fn)(void *user, cn_ctx *ctx, int64_t index,
                                           const cn_image *picture, cn_image *condition);

typedef struct cn_scene_dataset {
    const char *dir; /* created when missing */
    int64_t n;       /* pictures first_index .. first_index + n - 1 */
    int64_t first_index;
    uint64_t seed;
    int64_t size_px;
    int with;    /* of cn_scene_generate_with: a shape, or CN_SCENE_ANY */
    bool simple; /* simple scenes alone: index i is the first from i * CN_SCENE_SIMPLE_TRIES on */
    cn_scene_condition condition;
    cn_scene_condition_fn compute; /* in place of `condition` when set; compute_name names it */
    const char *compute_name;
    void *compute_user;
    bool alone; /* compute uses all threads itself */
    void (*progress)(void *user, int64_t done,
                     int64_t total); /* NULL for none; one call at a time */
    void *progress_user;
} cn_scene_dataset;

/* Scene `index` of the data set's sequence. */
void cn_scene_dataset_scene(const cn_scene_dataset *o, int64_t index, cn_scene *out);

/* Fill50K's layout: dir/source/N.png (condition), dir/target/N.png (picture), dir/prompt.json (JSON
 * lines), N the scene's index. Pictures that are there already are kept, so that an interrupted run
 * goes on; dir/scenes.txt says what the folder was made with, and other settings are refused with
 * CN_EMISMATCH. prompt.json comes last and lists this call's range. */
cn_status cn_scene_write_dataset(cn_ctx *ctx, const cn_scene_dataset *options) CN_CHECKED;

#endif
