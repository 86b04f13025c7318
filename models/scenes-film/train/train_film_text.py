"""Teaches the text encoder of `scenes` the words of motion: film captions are read out by probes, and the states of the
captions that it knows already are held where they are."""

import argparse
import os
import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import CLIPTextModel

import films
import data

READ = [6, 8, 2, 4, 11]          # shape, colour, size, direction, ground


class Probe(nn.Module):
    """One learned query with cross attention for each thing to read."""

    def __init__(self, width=128):
        super().__init__()
        self.query = nn.Parameter(torch.randn(len(READ), width))
        self.attn = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.read = nn.ModuleList(nn.Linear(width, n) for n in READ)

    def forward(self, states):
        q = self.query.expand(states.shape[0], -1, -1)
        h = self.norm(q + self.attn(q, states, states)[0])
        return [layer(h[:, i]) for i, layer in enumerate(self.read)]


def batch(rng, encode, n, unseen):
    recs = []
    while len(recs) < n:
        r = films.sample_record(rng)
        if films.held_out(r) == unseen:
            recs.append(r)
    ids = torch.tensor([encode(films.caption(rng, r)) for r in recs])
    return ids, torch.tensor([[r["s1"], r["c1"], r["z1"], r["dir"], r["bg"]] for r in recs])


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True)
    p.add_argument("--minutes", type=float, default=4)
    p.add_argument("--lr", type=float, default=5e-4)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    rng, val = random.Random(3), random.Random(4)
    encode = data.Encoder(films.SCENES + "/tokenizer")
    old = CLIPTextModel.from_pretrained(films.SCENES + "/text_encoder", torch_dtype=torch.float32).eval().requires_grad_(False)
    model = CLIPTextModel.from_pretrained(films.SCENES + "/text_encoder", torch_dtype=torch.float32)
    probe = Probe()
    params = list(model.parameters()) + list(probe.parameters())
    opt = torch.optim.AdamW(params, lr=a.lr, weight_decay=0.01)
    start, step, empty = time.time(), 0, encode("")
    while (t := (time.time() - start) / (a.minutes * 60)) < 1:
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 100) * (1 - 0.97 * t)
        ids, want = batch(rng, encode, 48, False)
        known = torch.tensor([empty] + [encode(data.caption(rng, data.sample_training(rng))) for _ in range(23)])
        states = model(torch.cat([ids, known])).last_hidden_state
        kept = F.mse_loss(states[48:], old(known).last_hidden_state)
        losses = [F.cross_entropy(x, want[:, i]) for i, x in enumerate(probe(states[:48]))]
        loss = losses[0] + losses[1] + 0.3 * losses[2] + losses[3] + 0.3 * losses[4] + 3 * kept
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        if step % 100 == 0:
            with torch.no_grad():
                ids, want = batch(val, encode, 256, True)
                right = [(x.argmax(-1) == want[:, i]).float().mean().item() for i, x in enumerate(probe(model(ids).last_hidden_state))]
            print(f"text step {step} t {time.time() - start:.0f}s loss {loss.item():.4f} kept {kept.item():.5f} held-out: shape {right[0]:.3f} "
                  f"colour {right[1]:.3f} size {right[2]:.3f} direction {right[3]:.3f} ground {right[4]:.3f}", flush=True)
            model.save_pretrained(a.out + "/text_encoder")
    model.save_pretrained(a.out + "/text_encoder")


if __name__ == "__main__":
    main()
