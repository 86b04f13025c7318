"""A small classifier of Fashion-MNIST: the judge of samples, and the Fréchet space "fashion-cnn".

  python classifier.py --out ../classifier --epochs 8
"""

import argparse
import json
import os
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import data

CONFIG = {"class": "FashionCnn", "name": "fashion-cnn", "sample_size": 32, "channels": [16, 32, 64], "features": 128,
          "labels": data.CLASSES}


class FashionCnn(torch.nn.Module):
    """[n, 1, 32, 32] in [-1, 1] to 10 logits; `features` is the ReLU output of the hidden layer."""

    def __init__(self):
        super().__init__()
        a, b, c = CONFIG["channels"]
        self.conv1 = torch.nn.Conv2d(1, a, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(a, b, 3, padding=1)
        self.conv3 = torch.nn.Conv2d(b, c, 3, padding=1)
        self.hidden = torch.nn.Linear(c * 16, CONFIG["features"])
        self.output = torch.nn.Linear(CONFIG["features"], len(data.CLASSES))

    def features(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, x):
        return self.output(F.dropout(self.features(x), 0.3, self.training))


def load(folder):
    net = FashionCnn()
    net.load_state_dict(load_file(folder + "/model.safetensors"))
    return net.eval()


@torch.no_grad()
def accuracy(net):
    pictures, labels = data.read("t10k")
    net.eval()
    guesses = torch.cat([net(data.scaled(x)).argmax(1) for x in pictures.split(500)])
    net.train()
    return (guesses == labels).float().mean().item()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=2e-3)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    net = FashionCnn().to(memory_format=torch.channels_last)
    pictures, labels = data.read("train")
    steps = a.epochs * (len(labels) // a.batch)
    opt = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, a.lr, total_steps=steps)
    start = time.time()
    for epoch in range(a.epochs):
        order, total = torch.randperm(len(labels)), 0.0
        for pick in order.split(a.batch)[:len(labels) // a.batch]:
            loss = F.cross_entropy(net(data.scaled(pictures[pick])), labels[pick])
            opt.zero_grad()
            loss.backward()
            opt.step()
            plan.step()
            total += loss.item()
        print(f"epoch {epoch + 1} loss {total / (len(labels) // a.batch):.4f} test accuracy {accuracy(net):.4f} "
              f"t {time.time() - start:.0f}s", flush=True)
    os.makedirs(a.out, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, a.out + "/model.safetensors", {"format": "pt"})
    json.dump(CONFIG, open(a.out + "/config.json", "w"), indent=2)


if __name__ == "__main__":
    main()
