/* SPDX-License-Identifier: Apache-2.0 */
/* openpose_nets.c - OpenPose's networks: VGG's first layers, then stages that each see the maps of
 * the one before.
 *
 * Layers are named as in the published files, without scopes. Hands and faces share everything but
 * the number of maps. Source: Wei et al., "Convolutional Pose Machines"; Cao et al., "Realtime
 * Multi-Person 2D Pose Estimation".
 */
#include "annotate/pose/openpose.h"

enum { STAGES = 6, WIDTH = 128 };

static cn_node *conv_relu(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel)
{
    return cn_activation(g, cn_conv2d(g, name, x, O, kernel, 1, kernel / 2), CN_ACT_RELU);
}

/* A layer whose name has two numbers and an ending. */
static cn_node *numbered(cn_graph *g, const char *format, int a, int b, const char *ending,
                         cn_node *x, int64_t O, int kernel)
{
    char name[64];
    snprintf(name, sizeof name, format, a, b, ending);
    return conv_relu(g, name, x, O, kernel);
}

/* To an eighth of the size: conv1_1 to conv4_2. */
static cn_node *vgg(cn_graph *g, cn_node *x)
{
    static const int layers[] = {2, 2, 4, 2};
    static const int no_pad[4] = {0, 0, 0, 0};
    for (int block = 0; block < 4; block++) {
        if (block) x = cn_max_pool(g, x, 2, 2, no_pad);
        for (int i = 0; i < layers[block]; i++)
            x = numbered(g, "conv%d_%d%s", block + 1, i + 1, "", x, 64 << block, 3);
    }
    return x;
}

/* Mconv1 to Mconv7 of a stage; `ending` names the branch. */
static cn_node *refine(cn_graph *g, int stage, const char *ending, cn_node *x, int64_t maps)
{
    char name[64];
    for (int i = 1; i <= 6; i++)
        x = numbered(g, "Mconv%d_stage%d%s", i, stage, ending, x, WIDTH, i < 6 ? 7 : 1);
    snprintf(name, sizeof name, "Mconv7_stage%d%s", stage, ending);
    return cn_conv2d(g, name, x, maps, 1, 1, 0);
}

/* A branch's first maps. */
static cn_node *first_maps(cn_graph *g, const char *branch, cn_node *x, int64_t maps)
{
    char name[64];
    for (int i = 1; i <= 4; i++)
        x = numbered(g, "conv%d_%d_CPM%s", 5, i, branch, x, i < 4 ? WIDTH : 512, i < 4 ? 3 : 1);
    snprintf(name, sizeof name, "conv5_5_CPM%s", branch);
    return cn_conv2d(g, name, x, maps, 1, 1, 0);
}

static void build_body(cn_graph *g, cn_node *x, cn_node **out)
{
    x = vgg(g, x);
    x = conv_relu(g, "conv4_3_CPM", x, 256, 3);
    cn_node *features = conv_relu(g, "conv4_4_CPM", x, WIDTH, 3);
    cn_node *fields = first_maps(g, "_L1", features, CN_POSE_FIELDS);
    cn_node *heat = first_maps(g, "_L2", features, CN_POSE_HEATS);
    for (int stage = 2; stage <= STAGES; stage++) {
        x = cn_concat(g, cn_concat(g, fields, heat), features);
        fields = refine(g, stage, "_L1", x, CN_POSE_FIELDS);
        heat = refine(g, stage, "_L2", x, CN_POSE_HEATS);
    }
    out[0] = fields;
    out[1] =
        cn_activation(g, heat, CN_ACT_RELU); /* the reference has one here, and nowhere before */
}

static void build_points(cn_graph *g, cn_node *x, cn_node **out, int64_t maps)
{
    x = vgg(g, x);
    x = conv_relu(g, "conv4_3", x, 512, 3);
    x = conv_relu(g, "conv4_4", x, 512, 3);
    x = conv_relu(g, "conv5_1", x, 512, 3);
    x = conv_relu(g, "conv5_2", x, 512, 3);
    cn_node *features = conv_relu(g, "conv5_3_CPM", x, WIDTH, 3);
    x = conv_relu(g, "conv6_1_CPM", features, 512, 1);
    x = cn_conv2d(g, "conv6_2_CPM", x, maps, 1, 1, 0);
    for (int stage = 2; stage <= STAGES; stage++)
        x = refine(g, stage, "", cn_concat(g, x, features), maps);
    out[0] = x;
}

static void build_hand(cn_graph *g, cn_node *x, cn_node **out)
{
    build_points(g, x, out, CN_POSE_HAND_MAPS);
}

static void build_face(cn_graph *g, cn_node *x, cn_node **out)
{
    build_points(g, x, out, CN_POSE_FACE_MAPS);
}

#define PUBLISHED "https://huggingface.co/lllyasviel/Annotators"

const cn_network cn_openpose_body = {.name = "OpenPose (body)",
                                     .file = "body_pose_model.pth",
                                     .url = PUBLISHED,
                                     .signs = {{"Mconv7_stage6_L1.weight", CN_POSE_FIELDS},
                                               {"conv5_5_CPM_L2.weight", CN_POSE_HEATS}},
                                     .channels = 3,
                                     .build = build_body};
const cn_network cn_openpose_hand = {.name = "OpenPose (hands)",
                                     .file = "hand_pose_model.pth",
                                     .url = PUBLISHED,
                                     .signs = {{"conv6_2_CPM.weight", CN_POSE_HAND_MAPS}},
                                     .channels = 3,
                                     .build = build_hand};
const cn_network cn_openpose_face = {.name = "OpenPose (face)",
                                     .file = "facenet.pth",
                                     .url = PUBLISHED,
                                     .signs = {{"conv6_2_CPM.weight", CN_POSE_FACE_MAPS}},
                                     .channels = 3,
                                     .build = build_face};
