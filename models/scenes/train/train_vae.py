"""Trains the AutoencoderKL on freshly drawn scenes: crops first, whole pictures last."""

import argparse
import math
import random
import time

import torch
from diffusers import AutoencoderKL

import data
import workers

STD = 2.0                                     # of the latents after finish()


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
    p.add_argument("--batch", type=int, default=16, help="crops of 64 x 64 per worker")
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--kl", type=float, default=3e-4)
    p.add_argument("--resume", default="")
    workers.launch(train, p.parse_args(), port=29511)


def train(rank, count, a):
    torch.manual_seed(1)
    vae = AutoencoderKL.from_pretrained(a.resume) if a.resume else make_vae()
    vae.train()
    torch.manual_seed(10 + rank)
    rng = random.Random(1 + rank)
    params = list(vae.parameters())
    if rank == 0:
        print("parameters", sum(q.numel() for q in params), flush=True)
    opt = torch.optim.AdamW(params, lr=a.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    start, step, seen, last, last_save = time.time(), 0, 0, time.time(), time.time()
    ema = {k: v.detach().clone() for k, v in vae.state_dict().items()}
    acc, part = torch.zeros(3), 0.0
    while part < 1:
        whole = part > 1 - a.full
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(part * math.pi)))
        n = a.batch // 4 if whole else a.batch
        recs = [data.sample_training(rng) for _ in range(n)]
        x = data.render(recs, None if whole else 64, rng)
        with torch.autocast("cpu", torch.bfloat16):
            post = vae.encode(x).latent_dist
            z = post.mean.float() + torch.exp(0.5 * post.logvar.float()) * torch.randn(post.mean.shape)
            y = vae.decode(z).sample.float()
        diff = y - x
        kl = 0.5 * (post.mean.float() ** 2 + post.logvar.float().exp() - 1 - post.logvar.float()).mean()
        ground = torch.tensor([data.RGB[r["bg"]] for r in recs]) / 127.5 - 1
        w = 1 + 3.0 * ((x - ground[:, :, None, None]).abs().amax(1, keepdim=True) > 0.02)
        w = w / w.mean()                      # the shapes count four times as much as the ground
        loss = (w * (diff.abs() + 2 * diff ** 2)).mean() + a.kl * kl
        opt.zero_grad(set_to_none=True)
        loss.backward()
        extra = torch.stack([diff.abs().mean(), (diff ** 2).mean(), kl, torch.zeros(())]).detach()
        extra[3] = (time.time() - start) / (a.minutes * 60)
        mean = workers.average_gradients(params, count, extra)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        part = mean[3].item()
        acc += mean[:3]
        step += 1
        seen += n * count
        with torch.no_grad():
            d = min(0.99, step / (step + 20))
            for k, v in vae.state_dict().items():
                ema[k].lerp_(v, 1 - d)
        if rank == 0 and step % 50 == 0:
            now = time.time()
            print(f"vae step {step} seen {seen} t {now - start:.0f}s l1 {acc[0] / 50:.4f} mse {acc[1] / 50:.5f} "
                  f"kl {acc[2] / 50:.2f} lr {g['lr']:.5f} {50 / (now - last):.2f} step/s", flush=True)
            last = now
        if step % 50 == 0:
            acc.zero_()
        if rank == 0 and time.time() - last_save > 120:
            last_save = time.time()
            save(ema, a.out)
    if rank == 0:
        save(ema, a.out)
        print("scaling_factor", finish(a.out), flush=True)


def save(ema, out):
    other = make_vae()
    other.load_state_dict(ema)
    other.save_pretrained(out)


@torch.no_grad()
def finish(folder):
    """Moves the latents to mean 0 and one common std (exactly, in the 1 x 1 convolutions) and
    sets scaling_factor to the inverse of that std."""
    vae = AutoencoderKL.from_pretrained(folder)
    rng = random.Random(2)
    x = data.render([data.sample_training(rng) for _ in range(256)])
    z = torch.cat([vae.encode(b).latent_dist.mean for b in x.split(16)])
    mean, gain = z.mean((0, 2, 3)), STD / z.std((0, 2, 3))
    q, p = vae.quant_conv, vae.post_quant_conv
    p.bias += p.weight[:, :, 0, 0] @ mean
    p.weight /= gain[None, :, None, None]
    q.weight[:4] *= gain[:, None, None, None]
    q.bias[:4] = (q.bias[:4] - mean) * gain
    q.bias[4:] += 2 * gain.log()
    vae.register_to_config(scaling_factor=1 / STD)
    vae.save_pretrained(folder)
    print("latent mean", mean.tolist(), "std", (STD / gain).tolist(), "-> 0 and", STD)
    return 1 / STD


if __name__ == "__main__":
    main()
