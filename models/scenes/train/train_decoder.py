"""Trains the decoder of the VAE further, on the latents that train_unet.py keeps (pool*.pt).

The encoder stays, so latents and UNet stay valid.  A little noise on the latents makes the
decoder forgiving to what the UNet predicts not quite right.
"""

import argparse
import glob
import math
import random
import time

import torch
from diffusers import AutoencoderKL

import data


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vae", required=True)
    p.add_argument("--pool", required=True, help="folder with pool*.pt")
    p.add_argument("--out", required=True)
    p.add_argument("--minutes", type=float, default=12)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--noise", type=float, default=0.25, help="greatest std of the noise, in scaled latents")
    p.add_argument("--seed", type=int, default=8)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    rng = random.Random(a.seed)
    vae = AutoencoderKL.from_pretrained(a.vae)
    recs, lat = [], []
    for name in sorted(glob.glob(a.pool + "/pool[0-9].pt")):
        r, z = torch.load(name, weights_only=False)
        recs += r
        lat.append(z)
    lat = torch.cat(lat).float()
    params = list(vae.decoder.parameters()) + list(vae.post_quant_conv.parameters())
    ema = [q.detach().clone() for q in params]
    opt = torch.optim.AdamW(params, lr=a.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    start, step, acc = time.time(), 0, torch.zeros(2)
    print("scenes", len(recs), flush=True)
    while (part := (time.time() - start) / (a.minutes * 60)) < 1:
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 30) * (0.02 + 0.49 * (1 + math.cos(math.pi * part)))
        whole = rng.random() < 0.4
        n, cells = (3, 16) if whole else (10, 8)
        idx = [rng.randrange(len(recs)) for _ in range(n)]
        some = [recs[i] for i in idx]
        cut = torch.zeros(n, 2, dtype=torch.long)
        if not whole:                                 # window of 8 x 8 cells around an object
            for j, r in enumerate(some):
                i = rng.randrange(r["n"]) + 1
                for axis, v in enumerate((r[f"x{i}"], r[f"y{i}"])):
                    cut[j, axis] = min(max(round(v / 8 - 4 + rng.uniform(-2, 2)), 0), 8)
        z = torch.stack([lat[i][:, y:y + cells, x:x + cells] for i, (x, y) in zip(idx, cut.tolist())])
        z = z + torch.randn_like(z) * (torch.rand(n, 1, 1, 1) ** 2 * a.noise)
        x = data.render(some, cells * 8, None, cut * 8)
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.decode(z / vae.config.scaling_factor).sample.float()
        diff = y - x
        ground = torch.tensor([data.RGB[r["bg"]] for r in some]) / 127.5 - 1
        w = 1 + 3.0 * ((x - ground[:, :, None, None]).abs().amax(1, keepdim=True) > 0.02)
        loss = (w / w.mean() * (diff.abs() + 2 * diff ** 2)).mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(ema, params, 1 - min(0.98, step / (step + 20)))
        acc += torch.stack([diff.abs().mean(), (diff ** 2).mean()]).detach()
        if step % 50 == 0:
            print(f"decoder step {step} t {time.time() - start:.0f}s l1 {acc[0] / 50:.4f} mse {acc[1] / 50:.5f}", flush=True)
            acc.zero_()
    with torch.no_grad():
        for q, e in zip(params, ema):
            q.copy_(e)
    vae.save_pretrained(a.out)
    print("done", flush=True)


if __name__ == "__main__":
    main()
