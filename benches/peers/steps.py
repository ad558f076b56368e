"""PyTorch's training steps: forward, backward and AdamW (its fused one, the fastest)."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(2)
torch.manual_seed(0)


def step(network, loss, rate, compiled):
    """Compiled: forward, loss and backward; the optimiser has a kernel of its own."""
    optimizer = torch.optim.AdamW(network.parameters(), rate, fused=True)
    if compiled:
        loss = torch.compile(loss)

    def run(_):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value.item()

    run.warm = 4
    return None, run


def nt_xent(z, n, temperature=0.5):
    z = F.normalize(z, dim=1)
    scores = (z @ z.t() / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    return F.cross_entropy(scores, torch.cat([torch.arange(n, 2 * n), torch.arange(0, n)]))


def simclr(compiled=False):
    network = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 128))
    x = torch.randn(1024, 784)
    return step(network, lambda: nt_xent(network(x), 512), 1e-3, compiled)


def conv(compiled=False, channels_last=False):
    layers, inputs = [], 1
    for outputs in (32, 64, 128):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 10))
    x, y = torch.randn(256, 1, 28, 28), torch.randint(0, 10, (256,))
    if channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return step(network, lambda: F.cross_entropy(network(x), y), 1e-3, compiled)


def image_encoder():
    """The convolutions above, the mean over the plane, and a projection head."""
    layers, inputs = [], 1
    for outputs in (32, 64, 128):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    head = [nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def laid_out(channels_last, *what):
    return [w.to(memory_format=torch.channels_last) if channels_last else w for w in what]


def simclr_conv(compiled=False, channels_last=False):
    network, x = laid_out(channels_last, image_encoder(), torch.randn(512, 1, 28, 28))
    return step(network, lambda: nt_xent(network(x), 256), 1e-3, compiled)


def moco_conv(compiled=False, channels_last=False):
    network, copy, *views = laid_out(channels_last, image_encoder(), image_encoder(), torch.randn(256, 1, 28, 28), torch.randn(256, 1, 28, 28))
    copy.load_state_dict(network.state_dict())
    copy.requires_grad_(False)
    online, slow = list(network.parameters()), list(copy.parameters())
    optimizer = torch.optim.AdamW(online, 1e-3, fused=True)
    queue = F.normalize(torch.randn(4096, 128), dim=1)
    at, classes = 0, torch.zeros(256, dtype=torch.long)

    def loss():
        with torch.no_grad():
            key = F.normalize(copy(views[1]), dim=1)
        query = F.normalize(network(views[0]), dim=1)
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.t()], 1) / 0.2
        return F.cross_entropy(logits, classes), key

    if compiled:
        loss = torch.compile(loss)

    def run(_):
        nonlocal at
        optimizer.zero_grad()
        value, key = loss()
        value.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(slow, online, 0.01)
            queue[at : at + 256] = key
        at = (at + 256) % 4096
        return value.item()

    run.warm = 4
    return None, run


class Block(nn.Module):
    def __init__(self, width=384, heads=12, hidden=1536):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = (f(x).view(batch, tokens, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = self.first_norm(x + self.out(attended))
        return self.second_norm(x + self.narrow(F.gelu(self.wide(x))))


def transformer(compiled=False):
    network = nn.Sequential(*[Block() for _ in range(6)])
    x = torch.randn(16, 64, 384)
    return step(network, lambda: (network(x) ** 2).mean(), 1e-4, compiled)


def simclr_compiled():
    return simclr(True)


def conv_compiled():
    return conv(True)


def conv_channels_last():
    return conv(False, True)


def conv_compiled_channels_last():
    return conv(True, True)


def transformer_compiled():
    return transformer(True)


def simclr_conv_compiled():
    return simclr_conv(True)


def simclr_conv_channels_last():
    return simclr_conv(False, True)


def simclr_conv_compiled_channels_last():
    return simclr_conv(True, True)


def moco_conv_compiled():
    return moco_conv(True)


def moco_conv_channels_last():
    return moco_conv(False, True)


def moco_conv_compiled_channels_last():
    return moco_conv(True, True)
