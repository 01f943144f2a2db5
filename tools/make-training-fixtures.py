# SPDX-License-Identifier: Apache-2.0
"""Writes what training options must give: DIR/train_*.json beside tests/golden/core's networks (losses, gradients and weights over AdamW
steps with other batch sizes, losses, noise and trained parts) and OUT (tests/golden/training.json: formulas alone).

Usage: make-training-fixtures.py tests/golden/core tests/golden/training.json
Computed by PyPI's torch and diffusers in float32 on the CPU. Learning rates, EMA, SNR and the rescaled betas are diffusers' own
functions; the Huber losses follow kohya's conditional_loss and diffusers' scheduled-Huber example, written out below.
Weights and inputs follow from names (the same generator as cn_seed_tensor).
"""
import json, math, sys
import numpy as np, torch
from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel, compute_snr
from safetensors.torch import load_file
from seeds import unit

core, out = sys.argv[1], sys.argv[2]


def normal(name, *shape):
    return torch.from_numpy(sum(unit(f"input.{name}.{i}", shape) for i in range(4)) * np.float32(0.8660254))


def uniform(name, *shape):
    return torch.from_numpy((unit(f"input.{name}", shape) + 1) / 2)


def seeded(kind, name):
    m = json.load(open(f"{core}/{name}.manifest.json"))
    net = kind(**m["config"])
    net.load_state_dict({e["name"]: torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) * unit(e["key"], e["shape"]))
                         for e in m["tensors"]})
    return net.eval()


def huber_c(o, schedule, t):
    if o["huber_schedule"] == "snr":
        a = schedule.alphas_cumprod[t]
        return (1 - o["huber_c"]) / (1 + ((1 - a) / a) ** 0.5) ** 2 + o["huber_c"]
    if o["huber_schedule"] == "exponential":
        return torch.exp(math.log(o["huber_c"]) / 1000 * t)
    return torch.full(t.shape, o["huber_c"])


def weights(o, schedule, t):
    if not o.get("snr_gamma"):
        return torch.ones(t.shape)
    snr = compute_snr(schedule, t)
    least = torch.minimum(snr, torch.full(t.shape, float(o["snr_gamma"])))
    return least / (snr + 1) if schedule.config.prediction_type == "v_prediction" else least / snr


def loss_of(o, schedule, t, prediction, target):
    d = prediction - target
    kind = o.get("loss_type", "l2")
    if kind == "l2":
        each = d**2
    elif kind == "l1":
        each = d.abs()
    else:
        c = huber_c(o, schedule, t).view(-1, *[1] * (d.ndim - 1))
        each = 2 * (torch.sqrt(d**2 + c**2) - c)
        if kind == "huber":
            each = each * c
    return (each.mean(dim=list(range(1, d.ndim))) * weights(o, schedule, t)).mean()


def ddpm(o):
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                         prediction_type="v_prediction" if o.get("prediction") == "v" else "epsilon",
                         rescale_betas_zero_snr=o.get("rescale_betas_zero_snr", False))


def digest(named):
    """Of each tensor: its sum, its norm, its product with the seeded tensor probe.NAME."""
    r = {}
    for name, x in named:
        if x is not None:
            x = x.detach().double().numpy()
            r[name] = [float(f"{v:.7g}") for v in
                       (x.sum(), (x * x).sum() ** 0.5, (x * unit("probe." + name, x.shape).astype(np.float64)).sum())]
    return r


def train(mode, o):
    n, schedule = len(o["timesteps"][0]), ddpm(o)
    ctx = load_file(f"{core}/text_encoder.safetensors")["last_hidden_state"]
    ctx = ctx[[i % ctx.shape[0] for i in range(n)]]
    cn, un = seeded(ControlNetModel, "controlnet"), seeded(UNet2DConditionModel, "unet")
    un.requires_grad_(o.get("unlock") == "all")
    params = list(cn.named_parameters())
    params += [("unet:" + name, p) for name, p in un.named_parameters() if p.requires_grad]
    opt = torch.optim.AdamW([p for _, p in params], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    r = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-2, "max_grad_norm": 1.0, **o, "steps": []}
    for k, ts in enumerate(o["timesteps"]):
        latent, noise, t = normal(f"train.latent.{k}", n, 4, 16, 16), normal(f"train.noise.{k}", n, 4, 16, 16), torch.tensor(ts)
        noisy = schedule.add_noise(latent, noise, t)
        target = schedule.get_velocity(latent, noise, t) if o.get("prediction") == "v" else noise
        d, m = cn(noisy, t, encoder_hidden_states=ctx, controlnet_cond=uniform(f"train.cond.{k}", n, 3, 128, 128), return_dict=False)
        p = un(noisy, t, encoder_hidden_states=ctx, down_block_additional_residuals=d, mid_block_additional_residual=m).sample
        loss = loss_of(o, schedule, t, p, target)
        loss.backward()
        g = digest((name, p.grad) for name, p in params)
        norm = float(torch.nn.utils.clip_grad_norm_([p for _, p in params], 1.0))
        opt.step()
        opt.zero_grad(set_to_none=True)
        r["steps"].append({"loss": float(loss.detach()), "grad_norm": norm, "grads": g,
                           "weights_after": digest((name, p) for name, p in params)})
    json.dump(r, open(f"{core}/train_{mode}.json", "w"), separators=(",", ":"))


def learning_rates():
    cases = []
    for name, warmup, total, more in (("constant", 5, 40, {}), ("constant_with_warmup", 5, 40, {}), ("linear", 5, 40, {}), ("linear", 0, 7, {}),
                                      ("cosine", 5, 40, {}), ("cosine_with_restarts", 5, 40, {"num_cycles": 3}), ("cosine_with_restarts", 0, 11, {"num_cycles": 1}),
                                      ("polynomial", 5, 40, {"power": 2.0}), ("polynomial", 0, 13, {"power": 1.0})):
        p = torch.nn.Parameter(torch.zeros(1))
        opt = torch.optim.AdamW([p], lr=3e-4)
        s = get_scheduler(name, opt, num_warmup_steps=warmup, num_training_steps=total, **more)
        values = []
        for _ in range(total + 3):
            values.append(s.get_last_lr()[0])
            opt.step()
            s.step()
        cases.append({"name": name, "base": 3e-4, "warmup": warmup, "total": total, "cycles": more.get("num_cycles", 1),
                      "power": more.get("power", 1.0), "values": values})
    return cases


def ema(decay):
    """The mean after each step of a weight that is step^2."""
    p = torch.nn.Parameter(torch.zeros(1))
    mean, values = EMAModel([p], decay=decay), []
    for k in range(1, 41):
        p.data.fill_(float(k * k))
        mean.step([p])
        values.append(float(mean.shadow_params[0]))
    return {"decay": decay, "values": values}


def objectives():
    cases = []
    t = torch.tensor([0, 1, 10, 250, 500, 750, 990, 999])
    for o in ({"snr_gamma": 5.0}, {"snr_gamma": 1.0, "prediction": "v"}, {"snr_gamma": 5.0, "prediction": "v", "rescale_betas_zero_snr": True},
              {"loss_type": "huber", "huber_schedule": "snr", "huber_c": 0.1}, {"loss_type": "smooth_l1", "huber_schedule": "exponential", "huber_c": 0.1},
              {"loss_type": "huber", "huber_schedule": "constant", "huber_c": 0.3},
              {"loss_type": "smooth_l1", "huber_schedule": "snr", "huber_c": 0.2, "prediction": "v", "rescale_betas_zero_snr": True}):
        s = ddpm(o)
        c = huber_c(o, s, t) if "huber_c" in o else torch.zeros(t.shape)
        cases.append({**o, "timesteps": t.tolist(), "weights": weights(o, s, t).tolist(), "c": c.tolist()})
    return cases


with torch.enable_grad():
    train("batch3_min_snr", {"timesteps": [[5, 300, 990], [700, 150, 450]], "snr_gamma": 5.0})
    train("batch1_joint_huber", {"timesteps": [[120]], "loss_type": "huber", "huber_schedule": "snr", "huber_c": 0.1, "unlock": "all"})
    train("v_zero_snr_smooth_l1", {"timesteps": [[999, 10, 400, 850]], "loss_type": "smooth_l1", "huber_schedule": "exponential",
                                   "huber_c": 0.1, "snr_gamma": 5.0, "prediction": "v", "rescale_betas_zero_snr": True})
zero = ddpm({"rescale_betas_zero_snr": True}).alphas_cumprod
json.dump({"learning_rates": learning_rates(), "ema": [ema(0.9999), ema(0.5)], "objectives": objectives(),
           "alphas_zero_snr": [float(a) for a in zero[::37]] + [float(zero[-1])]},
          open(out, "w"), separators=(",", ":"))
