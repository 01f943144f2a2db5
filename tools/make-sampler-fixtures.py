# SPDX-License-Identifier: Apache-2.0
"""Writes OUT.json (tests/golden/samplers.json): where diffusers' schedulers end, for step counts, timestep spacings, noise
schedules, solver settings and starting points beyond those of tests/golden/core. Needs diffusers, torch, numpy from PyPI.

Usage: make-sampler-fixtures.py OUT.json

The model is a formula, m(x, t) = 0.4 x + 0.1 sin(3 x) + 0.1 sin(t / 100), the first noise the seeded tensor
"samplers.x" (cn_seed_tensor, unit variance), the picture that a later start begins with "samplers.picture". Each
case has its config beside the common one, the sum of the timesteps of its run, its first and last one, and x in the middle and at the end.
"""
import json, sys, warnings
import numpy as np, torch
from diffusers import *

from seeds import unit

warnings.filterwarnings("ignore")
N, SEED = 16, 77

noise = torch.from_numpy(unit("samplers.x", N) * np.float32(3**0.5)).reshape(1, 4, 2, 2)
picture = torch.from_numpy(unit("samplers.picture", N)).reshape(1, 4, 2, 2)
sd = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
low = dict(steps_offset=1, clip_sample=False, set_alpha_to_one=False)
kinds = {
    "ddim": (DDIMScheduler, low), "pndm": (PNDMScheduler, dict(steps_offset=1, skip_prk_steps=True)),
    "ddpm": (DDPMScheduler, dict(steps_offset=1, clip_sample=False)), "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}), "heun": (HeunDiscreteScheduler, {}),
    "lms": (LMSDiscreteScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
    "dpm++2m_sde": (DPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")),
    "unipc": (UniPCMultistepScheduler, {}), "lcm": (LCMScheduler, {}),
}
draws = ("ddpm", "euler_a", "dpm++2m_sde", "lcm")
solvers = ("euler", "heun", "lms", "dpm++2m", "dpm++2m_sde", "unipc")


def run(name, steps, first, extra):
    cls, own = kinds[name]
    config = {**sd, **own, **extra}
    s = cls(**config)
    s.set_timesteps(steps)
    if extra.get("use_exponential_sigmas") and name in solvers[3:]:
        # the nearest timesteps, as with Karras'; diffusers drops the fraction, so that 999 becomes 998
        all_sigmas = ((1 - s.alphas_cumprod) / s.alphas_cumprod).sqrt().log().numpy()
        s.timesteps = torch.from_numpy(s._sigma_to_t(s.sigmas[:-1].double().numpy(), all_sigmas).round()).long()
    at = first * s.order
    times = s.timesteps[at:]
    if name == "lms":  # as k-diffusion: the run has its own sigmas alone
        s.timesteps, s.sigmas, at = times, s.sigmas[at:], 0
    if hasattr(s, "set_begin_index"):
        s.set_begin_index(at)
    x = s.add_noise(picture, noise, times[:1]) if first else noise * s.init_noise_sigma
    g = torch.Generator().manual_seed(SEED)
    path = []
    for t in times:
        z = s.scale_model_input(x, t)
        m = 0.4 * z + 0.1 * torch.sin(3 * z) + 0.1 * torch.sin(torch.as_tensor(float(t)) / 100)
        x = s.step(m, t, x, **(dict(generator=g) if name in draws else {})).prev_sample
        path.append(x.flatten())
    assert torch.isfinite(x).all(), (name, steps, extra)
    short = lambda v: [float(f"{e:.7g}") for e in v.tolist()]
    return dict(name=name, steps=steps, first=first, config={k: v for k, v in config.items() if k != "algorithm_type" and v != sd.get(k)},
                times=[len(times), float(times.double().sum()), float(times[0]), float(times[-1])],
                middle=short(path[len(path) // 2]), end=short(path[-1]))


cases = []
add = lambda *a: cases.append(run(*a))
for name in kinds:
    for steps in (1, 2, 3, 7, 50):
        for kind in ("epsilon", "v_prediction"):
            add(name, steps, 0, dict(prediction_type=kind))
    for first in (1, 3, 6):
        add(name, 7, first, {})
    if name != "lcm":
        for spacing in ("leading", "trailing", "linspace"):
            add(name, 6, 0, dict(timestep_spacing=spacing))
            if name not in ("ddim", "ddpm", "pndm"):
                add(name, 6, 2, dict(timestep_spacing=spacing, steps_offset=1, prediction_type="v_prediction"))
    if name not in ("pndm", "heun", "lms"):
        more = {} if name == "lcm" else dict(timestep_spacing="trailing")
        add(name, 7, 0, dict(rescale_betas_zero_snr=True, prediction_type="v_prediction", **more))
        if name != "lcm":
            add(name, 6, 0, dict(rescale_betas_zero_snr=True, timestep_spacing="leading"))
for name in solvers:
    for steps in (1, 2, 6, 50):
        add(name, steps, 0, dict(use_karras_sigmas=True))
    for steps in (1, 7, 20):
        add(name, steps, 0, dict(use_exponential_sigmas=True))
    add(name, 9, 4, dict(use_karras_sigmas=True, timestep_spacing="trailing", prediction_type="v_prediction"))
    if name not in ("heun", "lms"):
        add(name, 5, 0, dict(final_sigmas_type="sigma_min"))
        add(name, 16, 0, dict(final_sigmas_type="sigma_min", use_karras_sigmas=True))
for name in ("dpm++2m", "dpm++2m_sde"):
    for steps in (3, 7, 17):
        for order in (1, 3):
            add(name, steps, 0, dict(solver_order=order))
        add(name, steps, 0, dict(solver_type="heun"))
        add(name, steps, 0, dict(solver_order=3, lower_order_final=False, euler_at_final=True, final_sigmas_type="sigma_min"))
        add(name, steps, 1, dict(lower_order_final=False, final_sigmas_type="sigma_min"))
for steps in (3, 7, 17):
    for order in (1, 3):
        add("unipc", steps, 0, dict(solver_order=order))
        add("unipc", steps, 0, dict(solver_order=order, solver_type="bh1", lower_order_final=False, final_sigmas_type="sigma_min"))
    add("unipc", steps, 1, dict(solver_type="bh1", final_sigmas_type="sigma_min"))
add("ddpm", 6, 0, dict(variance_type="fixed_large"))
for name in ("ddim", "ddpm", "heun", "lcm"):
    add(name, 6, 0, dict(clip_sample=True))
    add(name, 6, 0, dict(clip_sample=True, clip_sample_range=0.5, prediction_type="v_prediction"))
add("ddim", 6, 0, dict(set_alpha_to_one=True))
add("pndm", 6, 0, dict(set_alpha_to_one=True))
add("lcm", 7, 2, dict(original_inference_steps=40, timestep_scaling=3.0))
for name in ("euler", "ddim", "unipc"):
    add(name, 6, 0, dict(beta_schedule="linear", beta_start=0.0001, beta_end=0.02))
    add(name, 6, 0, dict(num_train_timesteps=400))
with open(sys.argv[1], "w") as f:
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    f.write('{"common":' + json.dumps(sd) + ',\n"cases":[\n' + lines + "\n]}\n")
print(len(cases), "cases")
