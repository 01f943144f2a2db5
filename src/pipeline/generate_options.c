/* SPDX-License-Identifier: Apache-2.0 */
/* generate_options.c - the options of a drawing: of the pipeline, of each ControlNet, of the
 * picture.
 *
 * Names are those of stable-diffusion.cpp's command line.
 */
#include "base/option.h"
#include "device/device.h"
#include "image/image.h"
#include "pipeline/pipeline_internal.h"

#define WORDS(...)                 \
    .words = (const char *const[]) \
    {                              \
        __VA_ARGS__, NULL          \
    }

#define FIELD(member) CN_FIELD(cn_pipeline_options, member)

const cn_option cn_pipeline_option_rows[] = {
    {.help = "Model"},
    {"model", 'm', "diffusers folder or single file (.safetensors, .ckpt, .pth)", FIELD(model),
     .arg = "MODEL", .required = true},
    {"tokenizer", 0, "for a model without one: vocab.json and merges.txt, or tokenizer.json",
     FIELD(tokenizer), .arg = "DIR"},
    {"vae", 0,
     "a VAE instead of the model's own, or of one without: its file or folder, or a base model",
     FIELD(vae), .arg = "FILE|DIR"},
    {"refiner", 0,
     "a model that draws the last steps: SDXL's refiner, or another base of the same latents",
     FIELD(refiner), .arg = "MODEL"},
    {"prediction", 0,
     "what the UNet was trained to give, where the model doesn't say it or says it wrongly",
     FIELD(prediction), .words = cn_prediction_words, .unset = "as the model says"},
    CN_DEVICE_ROW(cn_pipeline_options, device),
    {"precision", 0,
     "what the networks multiply: bf16, faster and less exact, where the processor can; f16 on a "
     "--device; auto: bf16 where it can",
     FIELD(precision), WORDS("f32", "bf16", "f16", "auto"), .preset = "f32"},
    {"weight-type", 0,
     "how weights are kept in memory; q8: 8 bits, a quarter of f32, a little less exact; auto: as "
     "their file has them, bf16 under --precision bf16",
     FIELD(weight_type), WORDS("auto", "f32", "f16", "bf16", "q8"), .preset = "auto"},
    {"image-encoder", 0,
     "for IP-Adapters: CLIP's image encoder that they were trained with, its folder or file",
     FIELD(image_encoder), .arg = "FILE|DIR", .unset = "image_encoder/ of the model's folder"},
    {"lora-dir", 0, "a folder in which <lora:NAME:WEIGHT> in a prompt finds its file",
     FIELD(lora_dir), .arg = "DIR"},
    {"embeddings-dir", 0, "a folder of textual inversions", FIELD(embeddings_dir), .arg = "DIR"},

    {.help = CN_OPTIONS_ASIDE},
    {"preview-model", 0, "TAESD for --preview taesd: its decoder's file, or diffusers' folder",
     FIELD(preview_model), .arg = "FILE|DIR"},
    {"max-memory", 0,
     "stay below it (3G, 800M), at a cost in time, then quality: guidance's halves in turn, "
     "smaller weights, the VAE in tiles; of --device's memory, where that isn't the CPU",
     CN_FIELD_AS(CN_FIELD_BYTES, cn_pipeline_options, max_memory_bytes)},
    {0},
};

#undef FIELD
#define FIELD(member) CN_FIELD(cn_control_options, member)

const cn_option cn_control_option_rows[] = {
    {.help = "Control; repeat the group for several ControlNets at once"},
    {"control-strength", 0, "how strongly it acts", FIELD(strength), -100, 100, .preset = "1"},
    {"control-start", 0, "part of the steps after which it begins", FIELD(start), 0, 1,
     .preset = "0"},
    {"control-end", 0, "part of the steps after which it ends", FIELD(end), 0, 1, .preset = "1"},
    {"control-preprocessor", 0,
     "makes the condition from the image: none, or a kind of `controlnet annotate`, with settings "
     "where wanted: \"canny low=50\"; inpaint: -1 where --mask is; auto: by the ControlNet's name, "
     "as published",
     FIELD(preprocessor), .preset = "none", .arg = "KIND"},
    {"control-resize", 0,
     "how image and mask come to the picture's size: cropped around the centre, without regard to "
     "proportions, or whole with a border",
     FIELD(resize), WORDS("crop", "stretch", "fill"), .preset = "crop"},
    {"control-type", 0,
     "of a ControlNet Union: what the image shows. A second one begins a further condition of the "
     "same network, with its own --control-image and --control-strength",
     FIELD(type), .name_at = cn_control_type, .arg = "TYPE",
     .unset = "what the preprocessor makes"},
    {"union-attention", 0,
     "of several such conditions: batch, as diffusers; conditions-only, as ComfyUI",
     FIELD(union_attention), WORDS("batch", "conditions-only"), .preset = "batch"},
    {"control-mode", 0, "what counts more, the prompt or the control", FIELD(mode),
     WORDS("balanced", "prompt", "controlnet"), .preset = "balanced"},
    {"control-pass", 0, "of a drawing with --hires-scale, those it acts in", FIELD(pass),
     WORDS("both", "first", "second"), .preset = "both"},
    {0},
};

#undef FIELD
#define FIELD(member) CN_FIELD(cn_generate_options, member)

const cn_option cn_generate_option_rows[] = {
    {.help = "Picture"},
    {"prompt", 'p', "what to draw", FIELD(prompt), .preset = "", .arg = "TEXT", .required = true},
    {"negative-prompt", 'n', "what to keep away from", FIELD(negative_prompt), .arg = "TEXT",
     .unset = "an empty text; zeros of SDXL"},
    {"prompt-2", 0, "for SDXL's second text encoder", FIELD(prompt_2), .arg = "TEXT",
     .unset = "the same"},
    {"negative-prompt-2", 0, NULL, FIELD(negative_prompt_2), .arg = "TEXT", .unset = "the same"},
    {"prompt-style", 0,
     "plain: as diffusers, 75 tokens at most; webui: with (word:1.2), [word], BREAK, "
     "[from:to:when], [a|b], any length",
     FIELD(prompt_style), WORDS("plain", "webui"), .preset = "plain"},
    {"steps", 0, "sampling steps", FIELD(steps), 1, 1000, .preset = "20"},
    {"cfg-scale", 0, "guidance scale; 1 or less: without guidance", FIELD(cfg_scale), -1000, 1000,
     .preset = "7.5"},
    {"guidance-rescale", 0,
     "brings guided predictions back to the prompt's own spread; 0.7 for models with zero terminal "
     "SNR",
     FIELD(guidance_rescale), 0, 1, .preset = "0"},
    {"guidance-start", 0, "part of the steps after which guidance begins", FIELD(guidance_start), 0,
     1, .preset = "0"},
    {"guidance-end", 0, "part of the steps after which it ends; steps without take half the time",
     FIELD(guidance_end), 0, 1, .preset = "1"},
    {"sampling-method", 0,
     "names of diffusers and stable-diffusion-webui do too, \"DPM++ 2M Karras\"", FIELD(sampler),
     .name_at = cn_generate_sampler, .preset = "ddim", .arg = "NAME"},
    {"refiner-start", 0,
     "part of the timesteps behind which the refiner draws, as diffusers' denoising_start",
     FIELD(refiner_start), 0, 1, .preset = "0.8"},
    {"aesthetic-score", 0, "what SDXL's refiner is told of the picture", FIELD(aesthetic_score), 0,
     100, .preset = "6"},
    {"negative-aesthetic-score", 0, "and of guidance's unconditional half",
     FIELD(negative_aesthetic_score), 0, 100, .preset = "2.5"},
    {"eta", 0, "of tcd: how much of a step's noise is drawn anew", FIELD(eta), 0, 1,
     .preset = "0.3"},
    {"scheduler", 0, "noise levels of the samplers that take them; default: as the model says",
     FIELD(scheduler), .name_at = cn_generate_scheduler, .preset = "default", .arg = "NAME"},
    {"timestep-spacing", 0, NULL, FIELD(timestep_spacing), WORDS("leading", "trailing", "linspace"),
     .unset = "as the model says, else the sampling method's own"},
    {"rescale-betas-zero-snr", 0,
     "sampling starts from noise alone, for v models trained so that don't say it; with "
     "--timestep-spacing trailing or linspace",
     FIELD(rescale_betas_zero_snr)},
    {"width", 'W', "multiple of 8", FIELD(width), 1, CN_IMAGE_MAX_SIDE, .arg = "PX",
     .unset = "the condition image's, or the model's"},
    {"height", 'H', "multiple of 8", FIELD(height), 1, CN_IMAGE_MAX_SIDE, .arg = "PX",
     .unset = "the same"},
    {"original-size", 0, "SDXL is told that the picture was made smaller from this size",
     FIELD(original_size), .arg = "WxH", .unset = "the picture's"},
    {"target-size", 0, "and that it has this size", FIELD(target_size), .arg = "WxH",
     .unset = "the picture's"},
    {"crop", 0, "and was cut out of a picture here", FIELD(crop), .arg = "LEFT,TOP",
     .unset = "0,0"},
    {"negative-original-size", 0, "the same of guidance's unconditional half",
     FIELD(negative_original_size), .arg = "WxH", .unset = "the same"},
    {"negative-target-size", 0, NULL, FIELD(negative_target_size), .arg = "WxH",
     .unset = "the same"},
    {"negative-crop", 0, NULL, FIELD(negative_crop), .arg = "LEFT,TOP", .unset = "0,0"},
    {"batch-count", 'b', "pictures at once", FIELD(batch), 1, 1024, .preset = "1"},
    {"guess-mode", 0,
     "control without a prompt: two ways to weigh the ControlNet's blocks; the negative half has "
     "no control",
     FIELD(guess_mode), WORDS("lllyasviel", "diffusers")},
    {"strength", 0,
     "how much of the initial picture is drawn over: the part of the steps that is made",
     FIELD(strength), 0, 1, .unset = "0.75; 1 with --mask"},
    {"init-resize", 0,
     "how the initial picture and its mask come to the picture's size: cropped around the centre; "
     "without regard to proportions; whole, its edges drawn out; latent: as stretch, but its "
     "latents",
     FIELD(init_resize), WORDS("crop", "stretch", "fill", "latent"), .preset = "crop"},
    {"mask-style", 0,
     "webui: pixels that the mask keeps stay as they are; diffusers: latents are kept, and every "
     "pixel goes through the VAE",
     FIELD(mask_style), WORDS("webui", "diffusers"), .preset = "webui"},
    {"mask-blur", 0, "how soft the mask's edge is, in its pixels", FIELD(mask_blur), 0, 64,
     .arg = "PX", .preset = "4"},
    {"inpainting-mask-invert", 0, "what the mask leaves black is drawn", FIELD(mask_invert)},
    {"inpaint-full-res", 0,
     "only the part around the mask is drawn, at the picture's whole size, and put back into the "
     "initial picture",
     FIELD(inpaint_full_res)},
    {"inpaint-full-res-padding", 0, "what is drawn along with it, around the mask",
     FIELD(inpaint_padding), 0, 1024, .arg = "PX", .preset = "32"},
    {"inpainting-fill", 0, "what is under the mask to begin with", FIELD(inpainting_fill),
     WORDS("fill", "original", "latent-noise", "latent-nothing"), .preset = "original"},
    {"reference-strength", 0,
     "part of the UNet's self-attentions that see --reference, the widest first",
     FIELD(reference_strength), 0, 1, .preset = "1"},
    {"style-fidelity", 0,
     "how far guidance's unconditional half is drawn without --reference: 1 is the most like it",
     FIELD(style_fidelity), 0, 1, .preset = "0.5"},
    {"hires-scale", 0, "a second pass at X times the size", FIELD(hires_scale), 1, 8,
     .unset = "none"},
    {"hires-steps", 0, "its steps", FIELD(hires_steps), 1, 1000,
     .unset = "as many as the first pass's"},
    {"hires-strength", 0, "the part of them that is made", FIELD(hires_strength), 0, 1,
     .unset = "0.7"},
    {"hires-upscaler", 0, "between the passes; pixel: decoded, enlarged by Lanczos, encoded",
     CN_FIELD_AS(CN_FIELD_EITHER, cn_generate_options, hires_pixels), WORDS("latent", "pixel"),
     .preset = "latent"},
    {"vae-tiling", 0, "the VAE works in overlapping tiles: less memory for large pictures",
     FIELD(vae_tiling)},
    {"vae-tile-size", 0, "their side", FIELD(vae_tile_size), 8, CN_IMAGE_MAX_SIDE, .arg = "PX",
     .unset = "the model's own size"},
    {"init-latents", 0, "safetensors with the noise to start from", FIELD(init_latents),
     .arg = "FILE"},

    {.help = CN_OPTIONS_ASIDE},
    {"save-latents", 0, "safetensors that gets the final latents", FIELD(save_latents),
     .arg = "FILE"},
    {"preview-interval", 0, "a preview every N steps", FIELD(preview_interval), 1, 1000,
     .unset = "1"},
    {0},
};

void cn_generate_defaults(cn_generate_options *o)
{
    *o = (cn_generate_options){0};
    cn_options_preset(cn_generate_option_rows, o);
}
