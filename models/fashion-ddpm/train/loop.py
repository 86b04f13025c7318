"""Training by the clock for a denoiser, shared by fashion-ddpm, scenes-dit, scenes-control and scenes-film.

The network computes in bfloat16 (twice as fast as fp32 on CPUs with AVX512-BF16, an eighth as fast on those
without, which then take float32); the weights that the optimizer moves and their moving average are fp32.  One thread per worker; workers as in
models/scenes/train/workers.py.
"""

import math
import os
import sys
import time

import torch

SCENES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scenes/train")
sys.path.append(SCENES)
import workers  # noqa: E402


def arguments(parser):
    parser.add_argument("--out", required=True)
    parser.add_argument("--until", required=True, help="end as HH:MM (UTC)")
    parser.add_argument("--batch", type=int, default=32, help="per worker, twice that in the last fifth")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--resume", type=int, default=0)
    parser.add_argument("--anew", type=int, default=0, help="with --resume: the weights alone, under a schedule and an average of their own")
    return parser.parse_args()


def launch(fn, a, port):
    os.makedirs(a.out, exist_ok=True)
    workers.launch(fn, a, a.workers, port)


def seconds_until(clock):
    h, m = map(int, clock.split(":"))
    now = time.gmtime()
    return ((h - now.tm_hour) * 3600 + (m - now.tm_min) * 60 - now.tm_sec) % 86400


def times(n, total=1000):
    """Stratified times: one per slice of [0, total), shuffled."""
    t = ((torch.arange(n) + torch.rand(n)) / n * total).long().clamp(0, total - 1)
    return t[torch.randperm(n)]


def clipped(ac, most=5.0):
    """Weights of the squared error of epsilon: the signal-to-noise ratio counts up to `most`."""
    snr = ac / (1 - ac)
    return snr.clamp(max=most) / snr


class State:
    """fp32 weights, their moving average, optimizer and counters; the network is their copy that computes."""

    def __init__(self, net, a, pace, precision):
        self.net, self.file, self.anew = net, a.out + "/state.pt", a.anew
        self.names = [k for k, _ in net.named_parameters()]
        self.weights = [q.detach().clone() for q in net.parameters()]
        self.average = [q.clone() for q in self.weights]
        groups = {}
        for name, weight in zip(self.names, self.weights):
            groups.setdefault(pace(name), []).append(weight)
        groups = [{"params": weights, "pace": p} for p, weights in groups.items()]
        self.opt = torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.step = self.seen = 0
        self.spent = 0.0
        if a.resume and os.path.exists(self.file):
            self.load()
        net.to(precision)
        self.publish()

    @torch.no_grad()
    def publish(self):
        torch._foreach_copy_(list(self.net.parameters()), self.weights)

    def load(self):
        s = torch.load(self.file, weights_only=False)
        for mine, name in ((self.weights, "weights"), (self.average, "average")):
            for q, k in zip(mine, self.names):
                q.copy_(s[name][k])
        self.seen = s["seen"]
        if not self.anew:
            self.opt.load_state_dict(s["opt"])
            self.step, self.spent = s["step"], s["spent"]

    def save(self, spent):
        s = {"weights": dict(zip(self.names, self.weights)), "average": dict(zip(self.names, self.average)),
             "opt": self.opt.state_dict(), "step": self.step, "seen": self.seen, "spent": spent}
        torch.save(s, self.file + ".new")
        os.replace(self.file + ".new", self.file)

    @torch.no_grad()
    def update(self, extra, count):
        """One step from the gradients of the network; returns the means of `extra`."""
        for w, q in zip(self.weights, self.net.parameters()):
            w.grad = torch.zeros_like(w) if q.grad is None else q.grad.float()
            q.grad = None
        mean = workers.average_gradients(self.weights, count, extra)
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.opt.step()
        self.publish()
        self.step += 1
        torch._foreach_lerp_(self.average, self.weights, 1 - min(0.999, (1 + self.step) / (20 + self.step)))
        return mean


def train(net, errors, weight, a, rank, count, pace=lambda name: 1.0, precision=torch.bfloat16):
    """`errors(n)` draws n samples and gives their squared errors [n] and times [n]; `pace` multiplies a weight's rate."""
    state = State(net, a, pace, precision)
    begin = time.time()
    end = begin + seconds_until(a.until)
    begin -= state.spent                             # the schedule counts from the first start
    torch.manual_seed(200 + rank + 7 * state.step)
    if rank == 0:
        print(f"parameters {sum(q.numel() for q in state.weights)} from step {state.step}", flush=True)
    part = (time.time() - begin) / (end - begin)
    total, since, last, last_save = torch.zeros(4), 0, time.time(), time.time()
    while part < 1:
        n = a.batch if part < 0.8 else 2 * a.batch
        rate = min(1, (state.step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
        for group in state.opt.param_groups:
            group["lr"] = a.lr * rate * group.get("pace", 1.0)
        err, t = errors(n)
        loss = (err * weight[t]).mean()
        loss.backward()
        high = t >= 500
        now = (time.time() - begin) / (end - begin)
        mean = state.update(torch.stack([loss.detach(), err.mean().detach(), err[high].mean().detach(),
                                         torch.tensor(now)]), count)
        part = mean[3].item()
        state.seen += n * count
        total, since = total + mean, since + 1
        if rank == 0 and state.step % 50 == 0:
            x = total / since
            print(f"step {state.step} seen {state.seen} t {time.time() - begin:.0f}s part {part:.3f} loss {x[0]:.4f} "
                  f"plain {x[1]:.4f} high {x[2]:.4f} lr {a.lr * rate:.6f} "
                  f"{since * n * count / (time.time() - last):.1f} samples/s", flush=True)
            total, since, last = torch.zeros(4), 0, time.time()
        if rank == 0 and (time.time() - last_save > 150 or part >= 1):
            last_save = time.time()
            state.save(time.time() - begin)
