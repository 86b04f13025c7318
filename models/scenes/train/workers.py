"""Data parallel training by processes of one thread each (steadier than threads on shared cores)."""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def launch(fn, args, count=2, port=29511):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    mp.spawn(_entry, (fn, args, count), nprocs=count)


def _entry(rank, fn, args, count):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=count)
    fn(rank, count, args)
    dist.destroy_process_group()


def average_gradients(params, count, extra):
    """Means of the gradients (in place) and of the small tensor `extra` over the workers."""
    flat = torch.cat([p.grad.reshape(-1) for p in params] + [extra])
    dist.all_reduce(flat)
    flat /= count
    at = 0
    for p in params:
        p.grad.copy_(flat[at:at + p.numel()].view_as(p.grad))
        at += p.numel()
    return flat[at:]
