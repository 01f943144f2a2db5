# SPDX-License-Identifier: Apache-2.0
"""Writes OUT.json (tests/golden/samplers.json): where diffusers' schedulers end, for step counts, timestep spacings, noise
schedules, solver settings and starting points beyond those of tests/golden/core; and where k-diffusion's functions end that
diffusers has no class for, with noise drawn anew at each place instead of from a Brownian path. Needs diffusers, torch, numpy,
scipy, k-diffusion (its sampling.py alone: --no-deps does), torchsde and torchdiffeq from PyPI.

Usage: make-sampler-fixtures.py OUT.json

The model is a formula, m(x, t) = 0.4 x + 0.1 sin(3 x) + 0.1 sin(t / 100), the first noise the seeded tensor
"samplers.x" (cn_seed_tensor, unit variance), the picture that a later start begins with "samplers.picture". Each
case has its config beside the common one, the sum of the timesteps of its run, its first and last one, and x in the middle and at the end.
"""
import importlib.util, json, math, sys, types, warnings
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
    "unipc": (UniPCMultistepScheduler, {}), "lcm": (LCMScheduler, {}), "tcd": (TCDScheduler, {}),
}
draws = ("ddpm", "euler_a", "dpm++2m_sde", "lcm", "tcd")
solvers = ("euler", "heun", "lms", "dpm++2m", "dpm++2m_sde", "unipc")


def load_k_diffusion():
    """Its sampling.py without the package around it, which wants much else."""
    folder = importlib.util.find_spec("k_diffusion").submodule_search_locations[0]
    package = types.ModuleType("k")
    package.__path__ = [folder]
    sys.modules["k"], sys.modules["k.utils"] = package, types.ModuleType("k.utils")
    package.utils = sys.modules["k.utils"]
    package.utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    spec = importlib.util.spec_from_file_location("k.sampling", f"{folder}/sampling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def heunpp2(model, x, sigmas, **_):
    """The slopes at three levels, as ComfyUI's sample_heunpp2 weighs them."""
    for i in range(len(sigmas) - 1):
        calls, y, slopes = min(3, len(sigmas) - 1 - i), x, []
        for k in range(calls):
            slopes.append((y - model(y, sigmas[i + k, None])) / sigmas[i + k])
            y = y + slopes[-1] * (sigmas[i + k + 1] - sigmas[i + k])
        weights = [sigmas[i + k] / (calls * sigmas[0]) for k in range(1, calls)]
        slope = slopes[0] * (1 - sum(weights)) + sum(w * s for w, s in zip(weights, slopes[1:]))
        x = x + slope * (sigmas[i + 1] - sigmas[i])
    return x


k = load_k_diffusion()
functions = {"dpm++sde": k.sample_dpmpp_sde, "dpm++3m_sde": k.sample_dpmpp_3m_sde, "heun++": heunpp2}


def own_sigmas(name, n, every):
    """ComfyUI's and webui's noise levels from a schedule's own, `every` in rising order."""
    logs, last = np.log(every), len(every) - 1
    at = lambda t: np.exp(np.interp(t, np.arange(len(every)), logs))
    if name == "normal":
        return at(np.linspace(last, 0, n))
    if name == "sgm_uniform":
        return at(np.linspace(last, 0, n + 1)[:-1])
    if name == "simple":
        return np.array([every[-(1 + int(i * len(every) / n))] for i in range(n)])
    if name == "kl_optimal":
        part = np.arange(n) / max(1, n - 1)
        return np.tan(part * math.atan(every[0]) + (1 - part) * math.atan(every[-1]))
    levels = [14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
              0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582]
    return np.exp(np.interp(np.linspace(0, 1, n + 1), np.linspace(0, 1, 11), np.log(levels)))[:-1]


def set_steps(s, name, steps, config):
    """set_timesteps, with noise levels that diffusers doesn't know by their own name."""
    own = [n for n in own_names if config.get(f"use_{n}_sigmas")]
    every = ((1 - s.alphas_cumprod) / s.alphas_cumprod).sqrt().double().numpy()
    whole = [n for n in ("exponential", "beta") if config.get(f"use_{n}_sigmas")] and name in ("dpm++2m", "dpm++2m_sde", "unipc")
    if own and isinstance(s, EulerDiscreteScheduler):
        return s.set_timesteps(sigmas=[*own_sigmas(own[0], steps, every), 0.0])
    s.set_timesteps(steps)
    if own:
        s.sigmas = torch.tensor([*own_sigmas(own[0], steps, every), 0.0]).float()
    if own or whole:
        # the nearest timesteps, as with Karras'; diffusers drops the fraction, so that 999 becomes 998
        s.timesteps = torch.from_numpy(s._sigma_to_t(s.sigmas[:-1].double().numpy(), np.log(every)).round()).long()


own_names = ("normal", "sgm_uniform", "simple", "kl_optimal", "ays")
short = lambda v: [float(f"{e:.7g}") for e in v.tolist()]


def entry(name, steps, first, config, times, path):
    assert torch.isfinite(path[-1]).all(), (name, steps, config)
    return dict(name=name, steps=steps, first=first, config={k: v for k, v in config.items() if k != "algorithm_type" and v != sd.get(k)},
                times=[len(times), float(sum(map(float, times))), float(times[0]), float(times[-1])],
                middle=short(path[len(path) // 2]), end=short(path[-1]))


def predict(z, t):
    return 0.4 * z + 0.1 * torch.sin(3 * z) + 0.1 * torch.sin(torch.as_tensor(float(t)) / 100)


def run_function(name, steps, first, extra):
    config = {**sd, **extra}
    s = EulerDiscreteScheduler(**{k: v for k, v in config.items() if k[4:-7] not in own_names})
    set_steps(s, name, steps, config)
    every = ((1 - s.alphas_cumprod) / s.alphas_cumprod).sqrt().double().numpy()
    known = {float(sigma): float(t) for sigma, t in zip(s.sigmas, s.timesteps)}
    sigmas, times, inputs = s.sigmas[first:], [], []

    def model(x, sigma, **_):
        sigma = sigma.flatten()[0]
        t = known.get(float(sigma))
        times.append(t if t is not None else float(s._sigma_to_t(np.array([float(sigma)]), np.log(every))[0]))
        inputs.append(x.flatten())
        m = predict(x / (sigma**2 + 1) ** 0.5, times[-1])
        if config.get("prediction_type") == "v_prediction":
            return x / (sigma**2 + 1) - m * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * m

    g = torch.Generator().manual_seed(SEED)
    x = picture + noise * sigmas[0] if first else noise * s.init_noise_sigma
    draw = {} if name == "heun++" else dict(noise_sampler=lambda *_: torch.randn(x.shape, generator=g), disable=True)
    if len(sigmas) == 2 and name == "dpm++3m_sde":  # where k-diffusion's function ends in an error
        end = model(x, sigmas[:1])
    else:
        end = functions[name](model, x, sigmas, **draw)
    return entry(name, steps, first, config, times, inputs[1:] + [end.flatten()])


def run(name, steps, first, extra):
    if name in functions:
        return run_function(name, steps, first, extra)
    cls, own = kinds[name]
    config = {**sd, **own, **extra}
    s = cls(**{k: v for k, v in config.items() if k != "eta" and k[4:-7] not in own_names})
    set_steps(s, name, steps, config)
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
        more = {**(dict(generator=g) if name in draws else {}), **{k: v for k, v in extra.items() if k == "eta"}}
        x = s.step(predict(z, t), t, x, **more).prev_sample
        path.append(x.flatten())
    return entry(name, steps, first, config, times, path)


cases = []
add = lambda *a: cases.append(run(*a))
for name in kinds:
    for steps in (1, 2, 3, 7, 50):
        for kind in ("epsilon", "v_prediction"):
            add(name, steps, 0, dict(prediction_type=kind))
    for first in (1, 3, 6):
        add(name, 7, first, {})
    if name not in ("lcm", "tcd"):
        for spacing in ("leading", "trailing", "linspace"):
            add(name, 6, 0, dict(timestep_spacing=spacing))
            if name not in ("ddim", "ddpm", "pndm"):
                add(name, 6, 2, dict(timestep_spacing=spacing, steps_offset=1, prediction_type="v_prediction"))
    if name not in ("pndm", "heun", "lms"):
        more = {} if name in ("lcm", "tcd") else dict(timestep_spacing="trailing")
        add(name, 7, 0, dict(rescale_betas_zero_snr=True, prediction_type="v_prediction", **more))
        if name not in ("lcm", "tcd"):
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
for name in functions:
    for steps in (1, 2, 3, 7, 20):
        for kind in ("epsilon", "v_prediction"):
            add(name, steps, 0, dict(prediction_type=kind))
    for first in (1, 3, 5, 6):
        add(name, 7, first, {})
    add(name, 6, 2, dict(timestep_spacing="trailing"))
    add(name, 6, 0, dict(timestep_spacing="leading", steps_offset=1))
    add(name, 6, 0, dict(use_karras_sigmas=True))
for schedule in ("beta",) + own_names:
    for steps in (1, 2, 7, 20):
        add("euler", steps, 0, {f"use_{schedule}_sigmas": True})
        if (schedule, steps) != ("normal", 7):  # its timesteps lie between two whole ones
            add("dpm++2m", steps, 0, {f"use_{schedule}_sigmas": True})
    add("dpm++sde", 6, 2, {f"use_{schedule}_sigmas": True})
for eta in (0.0, 0.5, 1.0):
    add("tcd", 4, 0, dict(eta=eta))
    add("tcd", 5, 1, dict(eta=eta, prediction_type="v_prediction"))
for name in ("euler", "ddim", "unipc"):
    add(name, 6, 0, dict(beta_schedule="linear", beta_start=0.0001, beta_end=0.02))
    add(name, 6, 0, dict(num_train_timesteps=400))
with open(sys.argv[1], "w") as f:
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    f.write('{"common":' + json.dumps(sd) + ',\n"cases":[\n' + lines + "\n]}\n")
print(len(cases), "cases")
