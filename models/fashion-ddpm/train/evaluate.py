"""Draws pictures with the exported folder and judges them with the classifier.

  python evaluate.py --model .. --count 500 --steps 50 --results results.json --sheet sheet.png

With --real it judges test pictures instead, which gives the figures that a perfect model would have.
"""

import argparse
import json
import time

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline

import classifier
import data


def draw(folder, count, steps, seed, batch):
    """[count, 1, 32, 32] in [-1, 1]; picture i starts from the noise of seed + i; DDIM, eta 0."""
    pipe = DDPMPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    out = []
    for at in range(0, count, batch):
        size = min(batch, count - at)
        x = torch.cat([torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(seed + at + i))
                       for i in range(size)])
        for t in scheduler.timesteps:
            x = scheduler.step(pipe.unet(x, t).sample, t, x).prev_sample
        out.append(x.clamp(-1, 1))
    return torch.cat(out)


def moments(features):
    f = features.double()
    return f.mean(0), torch.cov(f.T)


def frechet(a, b):
    """Distance of two Gaussians; the trace of the root of the product from its eigenvalues."""
    (m, s), (n, r) = a, b
    root = torch.linalg.eigvals(s @ r).real.clamp(min=0).sqrt().sum()
    return (((m - n) ** 2).sum() + s.trace() + r.trace() - 2 * root).item()


def sheet(pictures, path, columns=16):
    from PIL import Image
    u8 = ((pictures[:, 0] + 1) * 127.5).round().byte().numpy()
    rows = [np.concatenate(list(u8[i:i + columns]), 1) for i in range(0, len(u8) - columns + 1, columns)]
    picture = Image.fromarray(np.concatenate(rows))
    picture.resize((picture.width * 2, picture.height * 2), Image.NEAREST).save(path)


@torch.no_grad()
def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="..")
    p.add_argument("--classifier", default="../classifier")
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--batch", type=int, default=50)
    p.add_argument("--real", action="store_true")
    p.add_argument("--results", default="")
    p.add_argument("--sheet", default="")
    a = p.parse_args()
    torch.set_num_threads(1)
    start, test = time.time(), data.scaled(data.read("t10k")[0])
    pictures = test[:a.count] if a.real else draw(a.model, a.count, a.steps, a.seed, a.batch)
    net = classifier.load(a.classifier)
    sure, kind = net(pictures).softmax(1).max(1)
    true = test[a.count:] if a.real else test
    shares = kind.bincount(minlength=len(data.CLASSES)) / len(kind)
    result = {
        "pictures": len(kind), "steps": a.steps, "seed": a.seed, "scheduler": "DDIM",
        "mean_confidence": round(sure.mean().item(), 4),
        "confident_90": round((sure >= 0.9).float().mean().item(), 4),
        "class_shares": {k: round(v.item(), 4) for k, v in zip(data.CLASSES, shares)},
        "class_entropy": round(-(shares * shares.clamp(min=1e-9).log()).sum().item() / np.log(len(shares)), 4),
        "frechet_fashion_cnn": round(frechet(moments(net.features(pictures)), moments(net.features(true))), 3),
        "frechet_against": f"{len(true)} test pictures",
    }
    print(f"{time.time() - start:.0f}s", json.dumps(result))
    if a.results:
        json.dump(result, open(a.results, "w"), indent=1)
    if a.sheet:
        sheet(pictures, a.sheet)


if __name__ == "__main__":
    main()
