/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - widths and depths of the networks of Stable Diffusion and ControlNet.
 *
 * They come from config.json (diffusers folders) or from the tensors' shapes (single files).
 */
#ifndef CN_MODEL_CHECKPOINT_CONFIG_H
#define CN_MODEL_CHECKPOINT_CONFIG_H

#include "base/base.h"

enum { CN_MAX_LEVELS = 8, CN_MAX_TEXT_ENCODERS = 2 };

#define CN_SD_SCALING_FACTOR 0.18215f /* of the VAE of SD 1.x and 2.x; diffusers' default too */

typedef struct cn_unet_config {
    int64_t in_channels, out_channels;
    int levels;
    int64_t channels[CN_MAX_LEVELS]; /* block_out_channels */
    bool attention[CN_MAX_LEVELS];   /* CrossAttnDownBlock2D at this level */
    int heads[CN_MAX_LEVELS];        /* number of attention heads (diffusers' attention_head_dim) */
    /* transformer_layers_per_block: of each spatial transformer at this level; the middle block has
     * as many as the last level, which may be 0 (SDXL's small ControlNets). */
    int transformer_layers[CN_MAX_LEVELS];
    int layers_per_block;   /* 2 */
    int64_t context_dim;    /* cross_attention_dim */
    bool linear_projection; /* SD 2.x: proj_in and proj_out are linear layers */
    int norm_groups;        /* 32 */
    int64_t sample_size;    /* latent height and width that the model was trained on */
    int64_t guidance_dim;   /* time_cond_proj_dim: of the guidance scale's embedding; 0: none */
    /* SDXL's added embedding, of the pooled text and of numbers (projection_class_embeddings_input_
     * dim); 0: none. And of each number (addition_time_embed_dim); 0: not known. */
    int64_t added_dim, added_number_dim;
} cn_unet_config;

typedef struct cn_controlnet_config {
    cn_unet_config encoder;               /* in_channels, levels, ...: the copied encoder's */
    int64_t condition_channels;           /* 3 */
    int hint_levels;                      /* 4 */
    int64_t hint_channels[CN_MAX_LEVELS]; /* 16 32 96 256 */
    /* global_pool_conditions: residuals are averages over the picture, for the conditional half of
     * guidance alone (Shuffle). */
    bool global_pool;
    /* Of a ControlNet Union: how many types of conditions there are (num_control_type; 0: it is
     * none), layers and heads of its small transformer (num_trans_layer, num_trans_head). */
    int union_types, union_layers, union_heads;
} cn_controlnet_config;

typedef enum cn_adapter_form {
    CN_ADAPTER_FULL,  /* half the size before each level but the first */
    CN_ADAPTER_XL,    /* before the third level alone */
    CN_ADAPTER_LIGHT, /* narrow residual blocks; one level more, of the last width */
    CN_ADAPTER_FORMS
} cn_adapter_form;

/* diffusers' T2IAdapter. */
typedef struct cn_adapter_config {
    cn_adapter_form form;
    int64_t image_channels; /* in_channels: 3, or 1 (grey) */
    int64_t shrink;         /* downscale_factor: pixels a side that become channels, 8 or 16 */
    int levels;
    int64_t channels[CN_MAX_LEVELS];
    int blocks; /* num_res_blocks, at each level */
} cn_adapter_config;

enum { CN_LLLITE_CONVS = 3 };

/* One module of a ControlNet-LLLite, before one linear layer of the UNet. */
typedef struct cn_lllite_module {
    char name[128]; /* of its tensors: "lllite_unet_input_blocks_4_1_..." */
    int convs;      /* of the condition's network, each of as many pixels as its stride */
    int64_t widths[CN_LLLITE_CONVS];
    int kernels[CN_LLLITE_CONVS];
    int64_t features, hidden; /* of the layer's input; of the module's own layers */
} cn_lllite_module;

typedef struct cn_lllite_config {
    int n;
    cn_lllite_module modules[];
} cn_lllite_config;

typedef struct cn_vae_config {
    int64_t image_channels, latent_channels; /* 3, 4 */
    int levels;
    int64_t channels[CN_MAX_LEVELS];
    int layers_per_block; /* 2; the decoder has one more */
    int norm_groups;      /* 32 */
    float scaling_factor; /* CN_SD_SCALING_FACTOR */
    /* TAESD (AutoencoderTiny): channels all alike, layers_per_block residual blocks behind each
     * change of size, scaled latents, no norms. */
    bool tiny;
} cn_vae_config;

typedef struct cn_clip_config {
    int64_t vocabulary, hidden, intermediate, max_positions;
    int layers, heads;
    int act; /* cn_act: CN_ACT_QUICK_GELU (SD 1.x), CN_ACT_GELU (SD 2.x) */
    float layer_norm_eps;
    bool open_clip;     /* SD 2.x, SDXL's second: single files have OpenCLIP's names */
    int64_t projection; /* width of the pooled output; 0: there is none */
    bool penultimate;   /* features come from before the last layer, without the final norm */
} cn_clip_config;

/* CLIP's image encoder (transformers' CLIPVisionModelWithProjection). */
typedef struct cn_vision_config {
    cn_clip_config clip; /* its layers; max_positions: patches, and one for the whole picture */
    int64_t image_size, patch;   /* pixels a side */
    float mean[3], deviation[3]; /* of the pictures' channels: image_mean, image_std */
} cn_vision_config;

typedef enum cn_ip_form {
    CN_IP_PLAIN, /* a linear layer makes all tokens of the encoder's projected output */
    CN_IP_FULL,  /* two layers make a token of each of its last layer but one's (full-face) */
    CN_IP_PLUS,  /* a resampler's queries attend to these (plus, plus-face) */
    CN_IP_FORMS
} cn_ip_form;

/* An IP-Adapter: how an image's features become tokens, and the cross-attention layers that have
 * keys and values of them. */
typedef struct cn_ip_config {
    cn_ip_form form;
    int64_t features;    /* width of what the image encoder gives */
    int64_t tokens;      /* of an image; of CN_IP_FULL as many as the encoder's, here 0 */
    int64_t context_dim; /* their width, the UNet's context's */
    int64_t hidden;      /* of CN_IP_FULL's first layer and of the resampler */
    int64_t inner;       /* of the resampler's attention, heads of CN_IP_HEAD each */
    int64_t feed_forward;
    int layers;          /* of the resampler */
    int pairs;           /* of keys and values */
    cn_unet_config unet; /* whose layers they belong to; set by cn_control_join */
} cn_ip_config;

enum { CN_IP_HEAD = 64 };

/* Which timesteps a run visits (Lin et al., "Common Diffusion Noise Schedules and Sample Steps are
 * Flawed", table 2). */
typedef enum cn_spacing {
    CN_SPACING_OWN, /* that of the sampler's class in diffusers */
    CN_SPACING_LEADING,
    CN_SPACING_TRAILING,
    CN_SPACING_LINSPACE
} cn_spacing;
/* "leading", "trailing", "linspace"; false for another name. */
bool cn_spacing_find(const char *name, cn_spacing *out);

/* The noise that a model was trained with and what scheduler_config.json says about sampling it;
 * the keys of that file stand behind each. */
typedef struct cn_schedule_config {
    int train_timesteps; /* num_train_timesteps, 1000 */
    double beta_start, beta_end;
    bool scaled_linear;          /* beta_schedule, else linear */
    bool v_prediction;           /* prediction_type, else epsilon */
    bool zero_snr;               /* rescale_betas_zero_snr */
    int steps_offset;            /* 1 */
    bool set_alpha_to_one;       /* false */
    bool clip_sample;            /* false */
    double clip_range;           /* clip_sample_range, 1 */
    cn_spacing spacing;          /* timestep_spacing */
    char sigma_schedule[16];     /* NAME where use_NAME_sigmas is true, else "" */
    bool ends_at_sigma_min;      /* final_sigmas_type sigma_min, else zero */
    int solver_order;            /* 2 */
    bool full_order_final;       /* lower_order_final false */
    bool euler_at_final;         /* false */
    bool heun_solver;            /* solver_type heun (of DPM-Solver), else midpoint */
    bool bh1_solver;             /* solver_type bh1 (of UniPC), else bh2 */
    bool large_variance;         /* variance_type fixed_large (of DDPM), else fixed_small */
    int lcm_steps;               /* original_inference_steps, 50 */
    double lcm_timestep_scaling; /* timestep_scaling, 10 */
    double tcd_eta;              /* eta, 0.3 */
} cn_schedule_config;

#endif
