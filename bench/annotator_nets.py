# SPDX-License-Identifier: Apache-2.0
"""The annotators' networks as PyTorch modules with the published files' names, for comparison.

Written from the papers and the published files' names and shapes. forward takes what the C networks take, NCHW.
NETWORKS: name -> (module, channels of its input, what it is called in `bench annotators`).
"""
import torch
from torch import nn
from torch.nn import functional as F


def resize(x, size, align=False):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align)


# --- M-LSD -------------------------------------------------------------------------------------------------


class ConvNorm(nn.Sequential):
    """3x3 with stride 2 pads at the bottom and right alone; ReLU6 unless another activation is given."""

    def __init__(self, i, o, kernel=3, stride=1, groups=1, act=nn.ReLU6):
        self_pad = kernel // 2 if stride == 1 else 0
        super().__init__(nn.Conv2d(i, o, kernel, stride, self_pad, groups=groups, bias=False), nn.BatchNorm2d(o), act())
        self.stride = stride

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x)


class InvertedResidual(nn.Module):
    def __init__(self, i, o, expand, stride):
        super().__init__()
        hidden = i * expand
        layers = [ConvNorm(i, hidden, 1)] if expand > 1 else []
        layers += [ConvNorm(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, o, 1, bias=False), nn.BatchNorm2d(o)]
        self.conv = nn.Sequential(*layers)
        self.skips = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.skips else self.conv(x)


class MobileNet(nn.Module):
    ROWS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]

    def __init__(self, levels):
        super().__init__()
        layers, i, self.taps = [ConvNorm(4, 32, 3, 2)], 32, []
        for expand, o, repeat, stride in self.ROWS[:levels]:
            for k in range(repeat):
                layers.append(InvertedResidual(i, o, expand, 1 if k else stride))
                i = o
            self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)

    def forward(self, x):
        out = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                out.append(x)
        return out


def conv_norm_relu(i, o, kernel, dilation=1):
    return nn.Sequential(nn.Conv2d(i, o, kernel, padding=dilation * (kernel // 2), dilation=dilation),
                         nn.BatchNorm2d(o), nn.ReLU())


class Join(nn.Module):
    def __init__(self, a, b, oa, ob):
        super().__init__()
        self.conv1, self.conv2 = conv_norm_relu(b, ob, 1), conv_norm_relu(a, oa, 1)

    def forward(self, a, b):
        a, b = self.conv2(a), self.conv1(b)
        return torch.cat([a, b if b.shape == a.shape else resize(b, a.shape[2:], True)], 1)


class Refine(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1, self.conv2 = conv_norm_relu(i, i, 3), conv_norm_relu(i, o, 3)

    def forward(self, x):
        return self.conv2(x + self.conv1(x))


class Maps(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv_norm_relu(i, i, 3, 5), conv_norm_relu(i, i, 3), nn.Conv2d(i, 16, 1)

    def forward(self, x):
        return self.conv3(self.conv2(self.conv1(x)))[:, 7:]


class MlsdLarge(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MobileNet(5)
        self.block15, self.block16 = Join(64, 96, 64, 64), Refine(128, 64)
        self.block17, self.block18 = Join(32, 64, 64, 64), Refine(128, 64)
        self.block19, self.block20 = Join(24, 64, 64, 64), Refine(128, 64)
        self.block21, self.block22 = Join(16, 64, 64, 64), Refine(128, 64)
        self.block23 = Maps(64)

    def forward(self, x):
        c1, c2, c3, c4, c5 = self.backbone(x)
        x = self.block16(self.block15(c4, c5))
        x = self.block18(self.block17(c3, x))
        x = self.block20(self.block19(c2, x))
        return self.block23(self.block22(self.block21(c1, x)))


class MlsdTiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MobileNet(4)
        self.block12, self.block13 = Join(32, 64, 64, 64), Refine(128, 64)
        self.block14, self.block15 = Join(24, 64, 32, 32), Refine(64, 64)
        self.block16 = Maps(64)

    def forward(self, x):
        _, c2, c3, c4 = self.backbone(x)
        x = self.block15(self.block14(c2, self.block13(self.block12(c3, c4))))
        x = self.block16(x)
        return resize(x, (2 * x.shape[2], 2 * x.shape[3]), True)


# --- HED ---------------------------------------------------------------------------------------------------

VGG = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]


class HedBlock(nn.Module):
    def __init__(self, i, o, layers):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i if k == 0 else o, o, 3, padding=1) for k in range(layers))
        self.projection = nn.Conv2d(o, 1, 1)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        return x, self.projection(x)


class Hed(nn.Module):
    """The mean of the sides' logits."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        i = 3
        for k, (layers, o) in enumerate(VGG):
            setattr(self, f"block{k + 1}", HedBlock(i, o, layers))
            i = o

    def forward(self, x):
        size, sides = x.shape[2:], []
        x = x - self.norm
        for k in range(5):
            x, side = getattr(self, f"block{k + 1}")(F.max_pool2d(x, 2) if k else x)
            sides.append(resize(side, size))
        return torch.stack(sides).mean(0)


class HedBsds(nn.Module):
    PARTS = ["One", "Two", "Thr", "Fou", "Fiv"]

    def __init__(self):
        super().__init__()
        i = 3
        for part, (layers, o) in zip(self.PARTS, VGG):
            body = [nn.MaxPool2d(2)] if i > 3 else []
            for k in range(layers):
                body += [nn.Conv2d(o if k else i, o, 3, padding=1), nn.ReLU()]
            setattr(self, "moduleVgg" + part, nn.Sequential(*body))
            setattr(self, "moduleScore" + part, nn.Conv2d(o, 1, 1))
            i = o
        self.moduleCombine = nn.Sequential(nn.Conv2d(5, 1, 1), nn.Sigmoid())

    def forward(self, x):
        size, sides = x.shape[2:], []
        for part in self.PARTS:
            x = getattr(self, "moduleVgg" + part)(x)
            sides.append(resize(getattr(self, "moduleScore" + part)(x), size))
        return self.moduleCombine(torch.cat(sides, 1))


# --- PiDiNet -----------------------------------------------------------------------------------------------


class Difference(nn.Conv2d):
    """A pixel difference convolution; fold() makes the plain one of it, once, so that it runs as fast as any."""

    def __init__(self, i, o, layer, groups=1):
        super().__init__(i, o, 3, padding=1, groups=groups, bias=False)
        self.rule, self.kernel = ["central", "angular", "radial", "plain"][layer % 4], None

    def fold(self):
        w = self.weight.detach().flatten(2)
        if self.rule == "central":
            w = w.clone()
            w[:, :, 4] -= self.weight.detach().flatten(2).sum(2)
        elif self.rule == "angular":
            w = w - w[:, :, [3, 0, 1, 6, 4, 2, 7, 8, 5]]
        elif self.rule == "radial":
            wide = w.new_zeros(*w.shape[:2], 25)
            wide[:, :, [0, 2, 4, 10, 14, 20, 22, 24]] = w[:, :, 1:]
            wide[:, :, [6, 7, 8, 11, 13, 16, 17, 18]] = -w[:, :, 1:]
            w = wide
        side = 5 if self.rule == "radial" else 3
        self.kernel = w.reshape(*w.shape[:2], side, side)

    def forward(self, x):
        if self.kernel is None:
            self.fold()
        return F.conv2d(x, self.kernel, padding=self.kernel.shape[2] // 2, groups=self.groups)


class PidiBlock(nn.Module):
    def __init__(self, i, o, layer, first):
        super().__init__()
        self.conv1, self.conv2 = Difference(i, i, layer, i), nn.Conv2d(i, o, 1, bias=False)
        if first:
            self.shortcut = nn.Conv2d(i, o, 1)
        self.first = first

    def forward(self, x):
        if self.first:
            x = F.max_pool2d(x, 2)
        y = self.conv2(F.relu(self.conv1(x)))
        return y + (self.shortcut(x) if self.first else x)


class Dilations(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.conv1 = nn.Conv2d(i, 24, 1)
        for k in range(1, 5):
            d = 3 + 2 * k
            setattr(self, f"conv2_{k}", nn.Conv2d(24, 24, 3, padding=d, dilation=d, bias=False))

    def forward(self, x):
        x = self.conv1(F.relu(x))
        return self.conv2_1(x) + self.conv2_2(x) + self.conv2_3(x) + self.conv2_4(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(24, 4, 1), nn.Conv2d(4, 1, 3, padding=1, bias=False)

    def forward(self, x):
        return x * torch.sigmoid(self.conv2(self.conv1(F.relu(x))))


class Reduce(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(24, 1, 1)


class PiDiNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.init_block = Difference(3, 60, 0)
        layer, i = 1, 60
        for s, c in enumerate([60, 120, 240, 240]):
            for k in range(1, 4 if s == 0 else 5):
                setattr(self, f"block{s + 1}_{k}", PidiBlock(i, c, layer, s > 0 and k == 1))
                layer, i = layer + 1, c
        self.dilations = nn.ModuleList(Dilations(c) for c in [60, 120, 240, 240])
        self.attentions = nn.ModuleList(Attention() for _ in range(4))
        self.conv_reduces = nn.ModuleList(Reduce() for _ in range(4))
        self.classifier = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        size, sides = x.shape[2:], []
        x = self.init_block(x)
        for s in range(4):
            for k in range(1, 4 if s == 0 else 5):
                x = getattr(self, f"block{s + 1}_{k}")(x)
            side = self.conv_reduces[s].conv(self.attentions[s](self.dilations[s](x)))
            sides.append(resize(side, size))
        return torch.sigmoid(self.classifier(torch.cat(sides, 1)))


# --- line art ----------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv_block = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c), nn.ReLU(),
                                        nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c))

    def forward(self, x):
        return x + self.conv_block(x)


class Lineart(nn.Module):
    def __init__(self):
        super().__init__()

        def end(c):
            return [nn.InstanceNorm2d(c), nn.ReLU()]

        self.model0 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 64, 7), *end(64))
        self.model1 = nn.Sequential(nn.Conv2d(64, 128, 3, 2, 1), *end(128), nn.Conv2d(128, 256, 3, 2, 1), *end(256))
        self.model2 = nn.Sequential(*[Residual(256) for _ in range(3)])
        self.model3 = nn.Sequential(nn.ConvTranspose2d(256, 128, 3, 2, 1, 1), *end(128),
                                    nn.ConvTranspose2d(128, 64, 3, 2, 1, 1), *end(64))
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(64, 1, 7), nn.Sigmoid())

    def forward(self, x):
        return self.model4(self.model3(self.model2(self.model1(self.model0(x)))))


class UnetLevel(nn.Module):
    CHANNELS = [64, 128, 256, 512, 512, 512, 512, 512]

    def __init__(self, level=0):
        super().__init__()
        o = self.CHANNELS[level]
        i = self.CHANNELS[level - 1] if level else 3
        self.level, inner = level, level == len(self.CHANNELS) - 1
        parts = [] if level == 0 else [nn.LeakyReLU(0.2)]
        parts.append(nn.Conv2d(i, o, 4, 2, 1))
        if not inner:
            parts += ([] if level == 0 else [nn.InstanceNorm2d(o)]) + [UnetLevel(level + 1)]
        parts += [nn.ReLU(), nn.ConvTranspose2d(o if inner else 2 * o, i if level else 1, 4, 2, 1)]
        parts.append(nn.InstanceNorm2d(i) if level else nn.Tanh())
        self.model = nn.Sequential(*parts)

    def forward(self, x):
        return torch.cat([x, self.model(x)], 1) if self.level else self.model(x)


class LineartAnime(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = UnetLevel()

    def forward(self, x):
        return self.model(x)


NETWORKS = {
    "mlsd_large": (MlsdLarge, 4, "M-LSD (large)"),
    "mlsd_tiny": (MlsdTiny, 4, "M-LSD (tiny)"),
    "hed": (Hed, 3, "HED"),
    "hed_bsds500": (HedBsds, 3, "HED (first release)"),
    "pidinet": (PiDiNet, 3, "PiDiNet"),
    "lineart": (Lineart, 3, "line art"),
    "lineart_anime": (LineartAnime, 3, "anime line art"),
}
