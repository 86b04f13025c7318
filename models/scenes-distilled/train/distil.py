"""Distils `scenes` into four steps: one step of the student is what eight guided DDIM steps of the teacher are.

Progressive distillation (Salimans & Ho, arXiv 2202.00512) of a guided teacher (Meng et al., arXiv 2210.03142), in one round: from a state x
at time t the teacher walks to the student's next time s, and the student learns the v that leads there in a single step. No pictures are
needed, only captions. Walks start from pure noise, as runs do, and half of their ways are the student's own, so that it learns to mend what
it gets wrong.

    python distil.py --out run/net --until HH:MM
"""

import argparse
import itertools
import random

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

import scenes
import data
import loop
from train_unet import alphas_cumprod

TIMES = [999, 749, 499, 249]          # trailing spacing of four steps; a run ends without noise
SUBSTEPS = 8
GUIDANCE = 4.0


class Steps:
    """DDIM without noise between times, for a network that predicts v; time -1 is the picture."""

    def __init__(self):
        ac = torch.cat([alphas_cumprod(), torch.ones(1)])
        self.alpha, self.sigma = ac.sqrt(), (1 - ac).sqrt()

    def angles(self, t, s):
        """cos and sin of the angle between the times, as columns: a step is cos * x - sin * v."""
        (a, b), (c, d) = (self.at(t), self.at(s))
        return a * c + b * d, b * c - a * d

    def at(self, t):
        t = torch.as_tensor(t)
        return self.alpha[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)

    def __call__(self, x, v, t, s):
        cos, sin = self.angles(t, s)
        return cos * x - sin * v

    def leading_to(self, x, y, t, s):
        """The v whose step from x ends in y."""
        cos, sin = self.angles(t, s)
        return (cos * x - y) / sin


class Teacher:
    """`scenes` with its guidance."""

    def __init__(self, empty, step):
        self.net = UNet2DConditionModel.from_pretrained(scenes.FOLDER + "/unet", torch_dtype=torch.float32).eval().requires_grad_(False)
        self.empty, self.step = empty, step

    @torch.no_grad()
    def walk(self, x, states, t, s):
        """From time t to s in SUBSTEPS guided steps."""
        both = torch.cat([self.empty.expand_as(states), states])
        times = [round(t + (s - t) * i / SUBSTEPS) for i in range(SUBSTEPS + 1)]
        for a, b in zip(times, times[1:]):
            free, told = self.net(torch.cat([x, x]), a, both).sample.chunk(2)
            x = self.step(x, free + GUIDANCE * (told - free), a, b)
        return x


class Pool:
    """Pairs of a state and the v that leads on from it; walkers add to them."""

    def __init__(self, teacher, encode, text, rng, walkers, limit):
        self.teacher, self.encode, self.text, self.rng = teacher, encode, text, rng
        self.walkers, self.limit, self.pairs = walkers, limit, []
        self.restart()

    @torch.no_grad()
    def restart(self):
        recs = [data.sample_training(self.rng) for _ in range(self.walkers)]
        self.ids = torch.tensor([self.encode(data.caption(self.rng, r)) for r in recs])
        self.states = self.text(self.ids).last_hidden_state
        self.x, self.block = torch.randn(self.walkers, 4, 16, 16), 0

    @torch.no_grad()
    def advance(self, student):
        """All walkers by one step of the student's."""
        t, s = TIMES[self.block], (TIMES + [-1])[self.block + 1]
        y = self.teacher.walk(self.x, self.states, t, s)
        v = self.teacher.step.leading_to(self.x, y, t, s)
        self.pairs += [(t, x, i, w) for x, i, w in zip(self.x.half(), self.ids, v.half())]
        del self.pairs[: -self.limit]
        own = self.teacher.step(self.x, student(self.x, t, self.states).sample, t, s)
        mine = torch.rand(self.walkers, 1, 1, 1) < 0.5
        self.x, self.block = torch.where(mine, own, y), self.block + 1
        if self.block == len(TIMES):
            self.restart()

    def draw(self, n):
        t, x, ids, v = zip(*(self.rng.choice(self.pairs) for _ in range(n)))
        return torch.tensor(t), torch.stack(x).float(), torch.stack(ids), torch.stack(v).float()


def train(rank, count, a):
    torch.manual_seed(5 + rank)
    load = lambda: UNet2DConditionModel.from_pretrained(scenes.FOLDER + "/unet", torch_dtype=torch.float32).eval()
    text = CLIPTextModel.from_pretrained(scenes.FOLDER + "/text_encoder", torch_dtype=torch.float32).eval().requires_grad_(False)
    encode, rng, net = data.Encoder(scenes.FOLDER + "/tokenizer"), random.Random(f"{rank} {a.resume} {a.until}"), load()
    with torch.no_grad():
        empty = text(torch.tensor([encode("")])).last_hidden_state
    pool = Pool(Teacher(empty, Steps()), encode, text, rng, a.walkers, a.pool)
    while len(pool.pairs) < a.first:
        pool.advance(net)

    calls = itertools.count()

    def errors(n):
        if next(calls) % a.every == 0:
            pool.advance(net)
        t, x, ids, v = pool.draw(n)
        with torch.no_grad():
            states = text(ids).last_hidden_state
        return ((net(x, t, states).sample - v) ** 2).mean((1, 2, 3)), t

    loop.train(net, errors, torch.ones(1000), a, rank, count, precision=torch.float32)


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--walkers", type=int, default=8)
    p.add_argument("--pool", type=int, default=40000, help="pairs kept, the oldest go first")
    p.add_argument("--every", type=int, default=2, help="training steps for each step of the walkers")
    p.add_argument("--first", type=int, default=256, help="pairs before the first step")
    return loop.arguments(p)


if __name__ == "__main__":
    loop.launch(train, arguments(), port=29541)
