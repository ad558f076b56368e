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


def both(a, b, target):
    s = F.normalize(a, dim=1) @ F.normalize(b, dim=1).t() / 0.1
    return 0.5 * (F.cross_entropy(s, target) + F.cross_entropy(s.t(), target))


def both_8192():
    return pairs(8192), step(both)


def both_compiled_8192():
    run = step(torch.compile(both))
    run.warm = 3
    return pairs(8192), run


def metric_learning(loss, z, *labels):
    """A loss of pytorch-metric-learning on one set of rows. An enumeration of pairs that needs more than 20 GB or 60 s is not waited for."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (26 << 30, 26 << 30))  # libraries reserve some GB that they never touch
    signal.alarm(60)

    def run(z):
        x = z.clone().requires_grad_()
        loss(x, *labels).backward()
        signal.alarm(0)
        return x.grad

    return z, run


def metric_ntxent_4096():
    """2 x 2,048 views."""
    from pytorch_metric_learning.losses import NTXentLoss

    return metric_learning(NTXentLoss(temperature=0.1), torch.randn(4096, 128), torch.arange(2048).repeat(2))


def metric_supcon_4096():
    from pytorch_metric_learning.losses import SupConLoss

    return metric_learning(SupConLoss(temperature=0.1), torch.randn(4096, 128), torch.arange(4096) % 100)


def ntxent_4096():
    """The same as NTXentLoss, written with one matrix."""
    partner = torch.arange(4096).roll(2048)

    def run(z):
        x = z.clone().requires_grad_()
        u = F.normalize(x, dim=1)
        s = (u @ u.t() / 0.1).fill_diagonal_(float("-inf"))
        F.cross_entropy(s, partner).backward()
        return x.grad

    return torch.randn(4096, 128), run


def weighted_4096():
    """Soft-InfoNCE; pytorch-metric-learning has no loss with a weight for each pair."""
    a, b, target = pairs(4096)
    logarithms = (0.5 + 0.5 * torch.rand(4096, 4096)).log().fill_diagonal_(0.0)

    def loss(a, b, target):
        s = F.normalize(a, dim=1) @ F.normalize(b, dim=1).t() / 0.1 + logarithms
        return -(s.softmax(1).diagonal() + 1e-15).log().mean()

    return (a, b, target), step(loss)
