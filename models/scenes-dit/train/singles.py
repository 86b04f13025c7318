"""Single shapes on a grey ground: 48 classes (colour x shape), their pictures and latents.

  python singles.py --vae ../vae --out run/latents.pt --each 200
"""

import argparse
import os
import random
import sys

import torch

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scenes/train"))
import data  # noqa: E402

GREY = data.BACKGROUNDS.index("grey")
COUNT = len(data.COLOURS) * len(data.SHAPES)
NULL = COUNT                                         # the row of the label table that guidance uses


def parts(label):
    """Class to (colour, shape) as indices; the shape runs fastest."""
    return divmod(label, len(data.SHAPES))


def name(label):
    colour, shape = parts(label)
    return f"{data.COLOURS[colour]} {data.SHAPES[shape]}"


def record(rng, label):
    """A record of scenes/train/data.py; any size, any place that leaves a margin."""
    colour, shape = parts(label)
    r = rng.uniform(22, 40)
    room = min(24, data.SIZE / 2 - 1.2 * r - 4)
    x, y = (data.SIZE / 2 + rng.uniform(-room, room) for _ in range(2))
    return {"n": 1, "s1": shape, "c1": colour, "z1": int(r > 31), "s2": 0, "c2": 0, "z2": 0, "rel": 0, "bg": GREY,
            "named_bg": 1, "x1": x, "y1": y, "r1": r, "x2": 0.0, "y2": 0.0, "r2": 0.0}


@torch.no_grad()
def main():
    from diffusers import AutoencoderKL
    p = argparse.ArgumentParser()
    p.add_argument("--vae", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--each", type=int, default=200, help="pictures per class")
    a = p.parse_args()
    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(a.vae, torch_dtype=torch.float32).eval()
    rng = random.Random(31)
    labels, latents = [], []
    for _ in range(a.each):
        turn = list(range(COUNT))
        pictures = data.render([record(rng, k) for k in turn])
        latents += [vae.encode(x).latent_dist.mean * vae.config.scaling_factor for x in pictures.split(16)]
        labels += turn
    z = torch.cat(latents)
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    torch.save({"labels": torch.tensor(labels), "latents": z.half()}, a.out)
    print(f"{len(z)} latents, mean {z.mean():.3f}, std {z.std():.3f}")


if __name__ == "__main__":
    main()
