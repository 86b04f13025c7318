"""Pretrains the CLIP text encoder: slots of the layout read the scene out of the token states."""

import argparse
import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel

import data

SLOTS = 7        # left, right, above, below, single, inner, outer
HIDDEN = 128


def make_text(vocab, bos, eos, length):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=vocab, hidden_size=HIDDEN, intermediate_size=4 * HIDDEN, projection_dim=HIDDEN,
        num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=length, hidden_act="quick_gelu",
        bos_token_id=bos, eos_token_id=eos, pad_token_id=eos))


def targets(rec):
    """Per slot shape (6 = none), colour (8 = none), size (2 = none); and the background."""
    out = [[6, 8, 2] for _ in range(SLOTS)]
    one, two = [rec["s1"], rec["c1"], rec["z1"]], [rec["s2"], rec["c2"], rec["z2"]]
    if rec["n"] == 1:
        out[4] = one
    elif rec["rel"] == 5:
        out[5], out[6] = one, two
    else:
        i = rec["rel"] - 1
        out[i], out[{0: 1, 1: 0, 2: 3, 3: 2}[i]] = one, two
    return out, rec["bg"]


class Probe(nn.Module):
    """Learned queries with cross attention, as the UNet's positions will ask later."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(SLOTS + 1, HIDDEN))
        self.attn = nn.MultiheadAttention(HIDDEN, 4, batch_first=True)
        self.norm = nn.LayerNorm(HIDDEN)
        self.slot = nn.Linear(HIDDEN, 7 + 9 + 3)
        self.bg = nn.Linear(HIDDEN, 11)

    def forward(self, states):
        q = self.query.expand(states.shape[0], -1, -1)
        h = self.norm(q + self.attn(q, states, states)[0])
        return self.slot(h[:, :SLOTS]).split([7, 9, 3], -1), self.bg(h[:, SLOTS])


def batch(rng, enc, n, sampler):
    recs = [sampler(rng) for _ in range(n)]
    ids = torch.tensor([enc(data.caption(rng, r)) for r in recs])
    t = [targets(r) for r in recs]
    return ids, torch.tensor([x[0] for x in t]), torch.tensor([x[1] for x in t])


def unseen(rng):
    while True:
        r = data.sample_record(rng)
        if data.held_out(r):
            return r


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--clip", required=True, help="folder with CLIP's merges.txt")
    p.add_argument("--out", required=True)
    p.add_argument("--minutes", type=float, default=5)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=1e-3)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    rng, val = random.Random(3), random.Random(4)
    data.write_tokenizer(a.out + "/tokenizer", a.clip, 32)
    enc = data.Encoder(a.out + "/tokenizer")
    for text in ("a small red circle to the left of a yellow square, on a light grey background", "an orange ring"):
        ids = enc.tok(text, padding="max_length", truncation=True, max_length=enc.length)["input_ids"]
        assert ids == enc(text), (ids, enc(text))
    model = make_text(len(enc.tok), enc.tok.bos_token_id, enc.tok.eos_token_id, enc.length)
    probe = Probe()
    params = list(model.parameters()) + list(probe.parameters())
    print("vocab", len(enc.tok), "parameters", sum(q.numel() for q in model.parameters()), flush=True)
    opt = torch.optim.AdamW(params, lr=a.lr, weight_decay=0.01)
    start, step = time.time(), 0
    while True:
        t = (time.time() - start) / (a.minutes * 60)
        if t >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 200) * (1 - 0.97 * t)
        ids, slots, bg = batch(rng, enc, a.batch, data.sample_training)
        (ls, lc, lz), lb = probe(model(ids).last_hidden_state)
        size = slots[..., 2]
        loss = (F.cross_entropy(ls.flatten(0, 1), slots[..., 0].flatten())
                + F.cross_entropy(lc.flatten(0, 1), slots[..., 1].flatten())
                + 0.3 * F.cross_entropy(lz.flatten(0, 1), size.flatten()) + 0.3 * F.cross_entropy(lb, bg))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        if step % 200 == 0:
            with torch.no_grad():
                ids, slots, bg = batch(val, enc, 256, unseen)
                (vs, vc, vz), vb = probe(model(ids).last_hidden_state)
                right = ((vs.argmax(-1) == slots[..., 0]) & (vc.argmax(-1) == slots[..., 1])).all(1).float().mean()
            print(f"text step {step} t {time.time() - start:.0f}s loss {loss.item():.4f} "
                  f"held-out layouts right {right.item():.3f} background {(vb.argmax(-1) == bg).float().mean().item():.3f}",
                  flush=True)
            model.save_pretrained(a.out + "/text_encoder")
    model.save_pretrained(a.out + "/text_encoder")
    torch.save(probe.state_dict(), a.out + "/probe.pt")


if __name__ == "__main__":
    main()
