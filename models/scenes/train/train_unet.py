"""Trains the UNet on latents of scenes, under the frozen text encoder; schedule by the clock.

The prediction is v: at high noise it is the picture itself, so that the layout that the
caption asks for is learnt early.  Each worker keeps a pool of encoded scenes that grows while it trains; captions are
reworded at every use.  Checkpoints hold weights, moving averages and optimizer state; a resumed run starts a new
schedule of its own.
"""

import argparse
import copy
import math
import os
import random
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

import data
import workers


def make_unet():
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(32, 48, 64, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=128, attention_head_dim=2, norm_num_groups=8)


def alphas_cumprod():
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
    return torch.cumprod(1 - betas, 0)


class Pool:
    """Encoded scenes of one worker (fp16 latents, already scaled) with their records."""

    def __init__(self, vae, rng, limit):
        self.vae, self.rng, self.limit = vae, rng, limit
        self.recs, self.lat = [], torch.empty(limit, 4, 16, 16, dtype=torch.float16)

    @torch.no_grad()
    def add(self, n):
        n = min(n, self.limit - len(self.recs))
        if n <= 0:
            return
        new = [data.sample_training(self.rng) for _ in range(n)]
        z = self.vae.encode(data.render(new)).latent_dist.mean * self.vae.config.scaling_factor
        self.lat[len(self.recs):len(self.recs) + n] = z.half()
        self.recs += new

    def draw(self, n, fresh, inside):
        have = len(self.recs)
        nested = [i for i, rec in enumerate(self.recs) if rec["rel"] == 5]
        idx = [have - 1 - i for i in range(min(fresh, n))]
        while len(idx) < n:
            idx.append(self.rng.choice(nested) if self.rng.random() < inside else self.rng.randrange(have))
        return [self.recs[i] for i in idx], self.lat[idx].float()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vae", required=True)
    p.add_argument("--text", required=True, help="folder of train_text.py")
    p.add_argument("--out", required=True)
    p.add_argument("--until", required=True, help="end as HH:MM of today (UTC)")
    p.add_argument("--batch", type=int, default=8, help="per worker, twice that in the last half")
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--pool", type=int, default=16000, help="scenes per worker")
    p.add_argument("--first", type=int, default=480, help="scenes per worker before the first step")
    p.add_argument("--drop", type=float, default=0.1)
    p.add_argument("--inside", type=float, default=0.0, help="share of scenes drawn again from those with one shape in another")
    p.add_argument("--resume", type=int, default=0)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    workers.launch(train, a, port=29512)


def train(rank, count, a):
    h, m = map(int, a.until.split(":"))
    now = time.gmtime()
    begin = time.time()
    end = begin + (h - now.tm_hour) * 3600 + (m - now.tm_min) * 60 - now.tm_sec
    torch.manual_seed(5)
    unet = make_unet().to(memory_format=torch.channels_last)
    text = CLIPTextModel.from_pretrained(a.text + "/text_encoder").eval().requires_grad_(False)
    enc = data.Encoder(a.text + "/tokenizer")
    vae = AutoencoderKL.from_pretrained(a.vae).eval()
    step, seen, spent = 0, 0, 0.0
    params = list(unet.parameters())
    opt = torch.optim.AdamW(params, lr=a.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = copy.deepcopy(unet)
    state_file = a.out + "/state.pt"
    if a.resume and os.path.exists(state_file):
        s = torch.load(state_file, weights_only=False)
        unet.load_state_dict(s["unet"]), average.load_state_dict(s["avg_unet"]), opt.load_state_dict(s["opt"])
        step, seen, spent = s["step"], s["seen"], s["spent"]
    first_step = step
    rng = random.Random(100 + rank + 7 * step)
    torch.manual_seed(200 + rank + 7 * step)
    pool = Pool(vae, rng, a.pool)
    pool_file = f"{a.out}/pool{rank}.pt"
    if a.resume and os.path.exists(pool_file):
        pool.recs, known = torch.load(pool_file, weights_only=False)
        pool.lat[:len(pool.recs)] = known
    while len(pool.recs) < min(a.first, a.pool):
        pool.add(16)
    if rank == 0:
        print(f"unet parameters {sum(q.numel() for q in params)} "
              f"scale {vae.config.scaling_factor} latent std {pool.lat[:len(pool.recs)].float().std():.3f} "
              f"pool ready after {time.time() - begin:.0f}s", flush=True)
    ac = alphas_cumprod()
    snr = ac / (1 - ac)
    weight = (snr + 1).clamp(max=6) / (snr + 1)      # on the error of v; caps the easy, clean times
    part, acc, n_acc, last, last_save = (time.time() - begin) / (end - begin), torch.zeros(4), 0, time.time(), time.time()
    empty = enc("")
    while part < 1:
        n = a.batch if part < 0.5 else 2 * a.batch
        rate = min(1, (step - first_step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
        for g in opt.param_groups:
            g["lr"] = a.lr * rate
        before = len(pool.recs)
        pool.add(2)
        recs, z = pool.draw(n, len(pool.recs) - before, a.inside)
        ids = torch.tensor([empty if rng.random() < a.drop else enc(data.caption(rng, r)) for r in recs])
        # stratified times: one per slice of [0, 1000)
        t = ((torch.arange(n) + torch.rand(n)) / n * 1000).long().clamp(0, 999)[torch.randperm(n)]
        noise = torch.randn_like(z)
        k = ac[t][:, None, None, None]
        noisy = (k.sqrt() * z + (1 - k).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            states = text(ids).last_hidden_state
        out = unet(noisy, t, states).sample
        err = ((out - (k.sqrt() * noise - (1 - k).sqrt() * z)) ** 2).mean((1, 2, 3))
        loss = (err * weight[t]).mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        for q in params:
            if q.grad is None:
                q.grad = torch.zeros_like(q)
        high = t >= 500
        extra = torch.stack([loss.detach(), (err * weight[t])[high].mean().detach(), err.mean().detach(),
                             torch.tensor((time.time() - begin) / (end - begin))])
        mean = workers.average_gradients(params, count, extra)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        part = mean[3].item()
        step += 1
        seen += n * count
        d = min(0.998, (1 + step) / (20 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), params, 1 - d)
        acc += mean
        n_acc += 1
        if rank == 0 and step % 50 == 0:
            x = acc / n_acc
            print(f"unet step {step} seen {seen} t {spent + time.time() - begin:.0f}s part {part:.3f} loss {x[0]:.4f} "
                  f"high {x[1]:.4f} plain {x[2]:.4f} lr {a.lr * rate:.6f} pool {len(pool.recs)} "
                  f"{n_acc / (time.time() - last):.2f} step/s", flush=True)
            acc, n_acc, last = torch.zeros(4), 0, time.time()
        if time.time() - last_save > 150 or part >= 1:
            last_save = time.time()
            torch.save((pool.recs, pool.lat[:len(pool.recs)].clone()), pool_file + ".new")
            os.replace(pool_file + ".new", pool_file)
            if rank:
                continue
            s = {"unet": unet.state_dict(), "avg_unet": average.state_dict(), "opt": opt.state_dict(),
                 "step": step, "seen": seen, "spent": spent + time.time() - begin}
            torch.save(s, state_file + ".new")
            os.replace(state_file + ".new", state_file)


if __name__ == "__main__":
    main()
