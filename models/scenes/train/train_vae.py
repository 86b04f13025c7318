"""Trains the AutoencoderKL on freshly drawn scenes: crops first, whole pictures last."""

import argparse
import os
import random
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import data


def make_vae():
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(16, 32, 48, 48),
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1, norm_num_groups=8, sample_size=128, act_fn="silu")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--minutes", type=float, default=14)
    p.add_argument("--full", type=float, default=0.25, help="last part of the time on whole pictures")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--kl", type=float, default=3e-4)
    p.add_argument("--bf16", type=int, default=1)
    p.add_argument("--resume", default="")
    a = p.parse_args()
    torch.manual_seed(1)
    rng = random.Random(1)
    vae = make_vae()
    if a.resume:
        vae = AutoencoderKL.from_pretrained(a.resume)
    print("parameters", sum(q.numel() for q in vae.parameters()), flush=True)
    opt = torch.optim.AdamW(vae.parameters(), lr=a.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    start, step, seen, last, last_save = time.time(), 0, 0, time.time(), time.time()
    total = a.minutes * 60
    acc = [0.0, 0.0, 0.0]
    ema = {k: v.detach().clone() for k, v in vae.state_dict().items()}
    while True:
        t = (time.time() - start) / total
        if t >= 1:
            break
        whole = t > 1 - a.full
        lr = a.lr * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + torch.cos(torch.tensor(t * 3.14159)).item()))
        for g in opt.param_groups:
            g["lr"] = lr
        n = a.batch // 4 if whole else a.batch
        x = data.render([data.sample_training(rng) for _ in range(n)], None if whole else 64, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(a.bf16)):
            post = vae.encode(x).latent_dist
            z = post.mean.float() + torch.exp(0.5 * post.logvar.float()) * torch.randn(post.mean.shape)
            y = vae.decode(z).sample.float()
        diff = y - x
        kl = 0.5 * (post.mean.float() ** 2 + post.logvar.float().exp() - 1 - post.logvar.float()).mean()
        loss = diff.abs().mean() + 2 * (diff ** 2).mean() + a.kl * kl
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        step += 1
        seen += n
        with torch.no_grad():
            d = min(0.99, step / (step + 20))
            for k, v in vae.state_dict().items():
                ema[k].lerp_(v, 1 - d)
        for i, v in enumerate((diff.abs().mean(), (diff ** 2).mean(), kl)):
            acc[i] += v.item()
        if step % 50 == 0:
            now = time.time()
            print(f"vae step {step} seen {seen} t {now - start:.0f}s l1 {acc[0] / 50:.4f} mse {acc[1] / 50:.5f} "
                  f"kl {acc[2] / 50:.2f} lr {lr:.5f} {50 / (now - last):.2f} step/s", flush=True)
            acc, last = [0.0, 0.0, 0.0], now
        if time.time() - last_save > 120:
            last_save = time.time()
            save(vae, ema, a.out)
    save(vae, ema, a.out)


def save(vae, ema, out):
    other = make_vae()
    other.load_state_dict(ema)
    other.save_pretrained(out)


@torch.no_grad()
def finish(folder):
    """Sets scaling_factor from the latents of 256 scenes; returns it."""
    vae = AutoencoderKL.from_pretrained(folder)
    rng = random.Random(2)
    x = data.render([data.sample_training(rng) for _ in range(256)])
    z = torch.cat([vae.encode(b).latent_dist.sample() for b in x.split(32)])
    print("latent mean", z.mean((0, 2, 3)).tolist(), "std", z.std((0, 2, 3)).tolist())
    s = round(1 / z.std().item(), 5)
    vae.register_to_config(scaling_factor=s)
    vae.save_pretrained(folder)
    return s


if __name__ == "__main__":
    main()
