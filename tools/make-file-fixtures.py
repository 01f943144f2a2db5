# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/files: small files of the field's forms and what the programs that define them read from each.

Usage: make-file-fixtures.py OUT [PART...] (OUT: tests/golden/files; PART: masks; without one all)
Needs PyPI's pillow. The same versions give the same bytes.
"""
import io, json, os, sys

OUT = sys.argv[1]


def write(name, value):
    with open(os.path.join(OUT, name), "w") as f:
        f.write(json.dumps(value, separators=(",", ":")).replace('},{', '},\n{') + "\n")


def packed(data):
    return bytes(data).hex()


# --- masks: stable-diffusion-webui's create_binary_mask (modules/processing.py) before its threshold ---------------------------


def masks():
    from PIL import Image

    def mask_of(image):
        """Any transparency: the alpha is the mask; else the luminance. Files of other modes come to webui as RGBA."""
        rgba = image.convert("RGBA")
        if rgba.getextrema()[-1] != (255, 255):
            return rgba.split()[-1]
        return image.convert("RGB").convert("L")

    def pixels(mode, f, size=(6, 5)):
        image = Image.new(mode, size)
        image.putdata([f(x, y) for y in range(size[1]) for x in range(size[0])])
        return image

    def palette(indices):
        image = pixels("P", indices)
        image.putpalette([0, 0, 0, 255, 255, 255, 200, 30, 90, 10, 240, 60])
        return image

    corner = lambda x, y: x < 3 and y > 1
    white_on_clear = pixels("RGBA", lambda x, y: (255, 255, 255, 255 if corner(x, y) else 0))
    cases = {
        "white on transparent ground": (white_on_clear, "PNG", {}),
        "black on transparent ground": (pixels("RGBA", lambda x, y: (0, 0, 0, 255 if corner(x, y) else 0)), "PNG", {}),
        "degrees of alpha": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 7, 8 * (x + 6 * y))), "PNG", {}),
        "one pixel not opaque": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 90, 254 if x == y == 2 else 255)), "PNG", {}),
        "all transparent": (pixels("RGBA", lambda x, y: (255, 255, 255, 0)), "PNG", {}),
        "opaque alpha": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 90, 255)), "PNG", {}),
        "grey with alpha": (pixels("LA", lambda x, y: (20 * x, 255 - 50 * y)), "PNG", {}),
        "grey with opaque alpha": (pixels("LA", lambda x, y: (40 * x, 255)), "PNG", {}),
        "grey": (pixels("L", lambda x, y: 40 * x + y), "PNG", {}),
        "grey with a transparent value": (pixels("L", lambda x, y: 40 * x), "PNG", {"transparency": 80}),
        "colours": (pixels("RGB", lambda x, y: (40 * x, 50 * y, 30 * x + 10 * y)), "PNG", {}),
        "colours with a transparent one": (pixels("RGB", lambda x, y: (40 * x, 0, 9)), "PNG", {"transparency": (80, 0, 9)}),
        "palette": (palette(lambda x, y: (x + y) % 4), "PNG", {}),
        "palette with a transparent entry": (palette(lambda x, y: (x + y) % 4), "PNG", {"transparency": 1}),
        "palette with alpha": (palette(lambda x, y: (x + y) % 4), "PNG", {"transparency": bytes([255, 0, 128, 7])}),
        "one bit": (pixels("1", lambda x, y: 255 * corner(x, y)), "PNG", {}),
        "webp": (white_on_clear, "WEBP", {"lossless": True}),
        "webp with degrees of alpha": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 7, 8 * (x + 6 * y))), "WEBP",
                                       {"lossless": True, "exact": True}),
        "webp without alpha": (pixels("RGB", lambda x, y: (40 * x, 50 * y, 90)), "WEBP", {"lossless": True}),
        "jpeg": (pixels("L", lambda x, y: 255 * corner(x, y)), "JPEG", {"quality": 95}),
    }
    out = []
    for name, (image, kind, options) in cases.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        mask = mask_of(Image.open(io.BytesIO(file.getvalue())))
        out.append({"name": name, "width": mask.width, "height": mask.height, "file": packed(file.getvalue()), "mask": packed(mask.tobytes())})
    write("masks.json", out)


PARTS = {"masks": masks}
for part in sys.argv[2:] or PARTS:
    PARTS[part]()
