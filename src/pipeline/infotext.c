/* SPDX-License-Identifier: Apache-2.0 */
/* infotext.c - "parameters" as stable-diffusion-webui and its ControlNet extension write it. */
#include "pipeline/infotext.h"

#include "diffuse/samplers/sampler.h"

#include <string.h>

/* The last part of the path's first *n bytes begins here; slashes at the end don't count. */
static size_t last_part(const char *path, size_t *n)
{
    while (*n > 1 && path[*n - 1] == '/') --*n;
    size_t from = *n;
    while (from > 0 && path[from - 1] != '/') from--;
    return from;
}

/* A file within diffusers' folder is known by the folder. Model names stand between commas and
 * quotes; the few that hold such characters get '_' for them. */
static void add_name(cn_str *s, const char *path)
{
    static const char usual[] = "diffusion_pytorch_model";
    size_t n = strlen(path), from = last_part(path, &n);
    if (from > 1 && strncmp(path + from, usual, sizeof usual - 1) == 0) {
        n = from;
        from = last_part(path, &n);
    }
    static const char *const endings[] = {".safetensors", ".ckpt", ".pth", ".pt", ".bin"};
    for (size_t i = 0; i < CN_COUNT(endings); i++) {
        size_t e = strlen(endings[i]);
        if (n - from > e && memcmp(path + n - e, endings[i], e) == 0) {
            n -= e;
            break;
        }
    }
    for (size_t i = from; i < n; i++) {
        char c = path[i];
        bool bad = strchr(",:\"\\", c) || (unsigned char)c < ' ';
        cn_str_add(s, bad ? "_" : &c, 1);
    }
}

static const char *mode_title(const char *mode)
{
    if (mode && !strcmp(mode, "prompt")) return "My prompt is more important";
    if (mode && !strcmp(mode, "controlnet")) return "ControlNet is more important";
    return "Balanced";
}

static const char *resize_title(const char *resize)
{
    if (resize && !strcmp(resize, "stretch")) return "Just Resize";
    if (resize && !strcmp(resize, "fill")) return "Resize and Fill";
    return "Crop and Resize";
}

/* As the extension writes it, where a second pass makes a difference. */
static const char *pass_text(const char *pass)
{
    if (pass && !strcmp(pass, "first")) return ", Hr Option: Low res only";
    if (pass && !strcmp(pass, "second")) return ", Hr Option: High res only";
    return "";
}

static void add_control(cn_str *s, const cn_parameters_text *t, int k)
{
    const cn_control_options *c = &t->options->controls[k];
    cn_str_addf(s, ", ControlNet %d: \"Module: %s, Model: ", k, t->preprocessors[k]);
    add_name(s, t->controls[k]);
    cn_str_addf(s,
                ", Weight: %g, Resize Mode: %s, Guidance Start: %g, Guidance End: %g, "
                "Control Mode: %s%s\"",
                c->strength, resize_title(c->resize), c->start, c->end, mode_title(c->mode),
                t->options->hires_scale > 1 ? pass_text(c->pass) : "");
}

static void add_mask(cn_str *s, const cn_generate_options *o)
{
    const char *fill = o->inpainting_fill;
    if (o->mask_invert) cn_str_adds(s, ", Mask mode: Inpaint not masked");
    if (o->mask_style && !strcmp(o->mask_style, "diffusers")) return;
    if (o->mask_blur) cn_str_addf(s, ", Mask blur: %d", o->mask_blur);
    if (o->inpaint_full_res)
        cn_str_addf(s, ", Inpaint area: Only masked, Masked area padding: %d", o->inpaint_padding);
    if (fill && !strcmp(fill, "fill")) cn_str_adds(s, ", Masked content: fill");
    if (fill && !strcmp(fill, "latent-noise")) cn_str_adds(s, ", Masked content: latent noise");
    if (fill && !strcmp(fill, "latent-nothing")) cn_str_adds(s, ", Masked content: latent nothing");
}

cn_status cn_parameters_write(cn_ctx *ctx, const cn_parameters_text *t, char **out)
{
    const cn_generate_options *o = t->options;
    const cn_sampler_kind *kind = cn_sampler_find(o->sampler, NULL);
    cn_str s = {0};
    cn_str_addf(&s, "%s\n", o->prompt ? o->prompt : "");
    if (o->negative_prompt && o->negative_prompt[0])
        cn_str_addf(&s, "Negative prompt: %s\n", o->negative_prompt);
    cn_str_addf(&s, "Steps: %d, Sampler: %s, ", o->steps, kind ? kind->title : o->sampler);
    if (t->schedule_type) cn_str_addf(&s, "Schedule type: %s, ", t->schedule_type);
    cn_str_addf(&s, "CFG scale: %g, Seed: %llu, Size: %lldx%lld, Model: ", o->cfg_scale,
                (unsigned long long)o->seed, (long long)t->width, (long long)t->height);
    add_name(&s, t->model);
    if (t->vae) {
        cn_str_adds(&s, ", VAE: ");
        add_name(&s, t->vae);
    }
    if (o->guidance_start > 0 && o->cfg_scale > 1)
        cn_str_addf(&s, ", Skip Early CFG: %g", o->guidance_start);
    if (o->clip_skip) cn_str_addf(&s, ", Clip skip: %d", o->clip_skip + 1);
    if (o->init_image || o->hires_scale > 1)
        cn_str_addf(&s, ", Denoising strength: %g", t->strength);
    if (o->mask) add_mask(&s, o);
    if (o->hires_scale > 1)
        cn_str_addf(&s, ", Hires upscale: %g, Hires steps: %d, Hires upscaler: %s", o->hires_scale,
                    o->hires_steps ? o->hires_steps : o->steps,
                    o->hires_pixels ? "Lanczos" : "Latent");
    if (t->refiner) {
        cn_str_adds(&s, ", Refiner: ");
        add_name(&s, t->refiner);
        cn_str_addf(&s, ", Refiner switch at: %g", o->refiner_start);
    }
    if (o->reference)
        cn_str_addf(&s, ", Reference strength: %g, Style fidelity: %g", o->reference_strength,
                    o->style_fidelity);
    if (o->guess_mode) cn_str_addf(&s, ", Guess mode: %s", o->guess_mode);
    if (o->batch > 1) cn_str_addf(&s, ", Batch size: %d, Batch pos: %d", o->batch, t->index);
    cn_str_adds(&s, ", RNG: CPU");
    for (int k = 0; k < t->n_controls; k++) add_control(&s, t, k);
    cn_str_adds(&s, ", Version: controlnet.c " CN_VERSION);
    *out = s.failed ? NULL : cn_strdup(ctx, s.data);
    cn_str_free(&s);
    return *out ? CN_OK : cn_fail(ctx, CN_ENOMEM, "out of memory for the picture's description");
}
