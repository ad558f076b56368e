"""Contrastive losses of PyTorch and pytorch-metric-learning, forward and backward."""

import torch
import torch.nn.functional as F

torch.set_num_threads(2)
torch.manual_seed(0)


def pairs(n, d=128):
    return torch.randn(n, d), torch.randn(n, d), torch.arange(n)


def info_nce(a, b, target):
    return F.cross_entropy(F.normalize(a, dim=1) @ F.normalize(b, dim=1).t() / 0.1, target)


def step(loss):
    def run(data):
        x, y, target = data
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        loss(a, b, target).backward()
        return a.grad, b.grad

    return run


def eager_1024():
    return pairs(1024), step(info_nce)


def eager_8192():
    return pairs(8192), step(info_nce)


def compiled(n):
    run = step(torch.compile(info_nce))
    run.warm = 3
    return pairs(n), run


def compiled_1024():
    return compiled(1024)


def compiled_8192():
    return compiled(8192)


def chunks_32768():
    """The whole matrix would take 4 GB forward and as much backward; rows are taken 1,024 at a time."""

    def run(data):
        x, y, target = data
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        for i in range(0, len(a), 1024):
            u = F.normalize(a[i : i + 1024], dim=1)
            loss = F.cross_entropy(u @ F.normalize(b, dim=1).t() / 0.1, target[i : i + 1024], reduction="sum") / len(a)
            loss.backward()
        return a.grad, b.grad

    return pairs(32768), run
