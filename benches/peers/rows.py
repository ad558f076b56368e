"""PyTorch's functions on rows, forward and backward, on the shapes of a transformer's layers."""

import torch
import torch.nn.functional as F

torch.set_num_threads(2)
torch.manual_seed(0)


def both(function, inputs, shape, compiled):
    """Forward, and backward with a given gradient of the output."""
    if compiled:
        function = torch.compile(function)
    gradient = torch.randn(shape)

    def run(inputs):
        for x in inputs:
            x.grad = None
        y = function(*inputs)
        y.backward(gradient if y.dim() else None)
        return y

    run.warm = 3
    return [x.requires_grad_() for x in inputs], run


def gelu(compiled=False):
    return both(F.gelu, [torch.randn(1024, 1536)], (1024, 1536), compiled)


def softmax(compiled=False):
    shape = (16, 12, 64, 64)
    return both(lambda x: torch.softmax(x * 0.176, -1), [torch.randn(shape)], shape, compiled)


def layer_norm(compiled=False):
    inputs = [torch.randn(1024, 384), torch.randn(384), torch.randn(384)]
    return both(lambda x, g, b: F.layer_norm(x, (384,), g, b), inputs, (1024, 384), compiled)


def cross_entropy(compiled=False):
    target = torch.arange(1024)
    return both(lambda x: F.cross_entropy(x, target), [torch.randn(1024, 1024)], (), compiled)


def linear(compiled=False):
    inputs = [torch.randn(1024, 384), torch.randn(1536, 384), torch.randn(1536)]
    return both(F.linear, inputs, (1024, 1536), compiled)


def attention(compiled=False):
    """From the layout that linear layers make, and back into it."""

    def run(q, k, v):
        q, k, v = (x.view(16, 64, 12, 32).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1024, 384)

    return both(run, [torch.randn(1024, 384) for _ in range(3)], (1024, 384), compiled)


def compiled_gelu():
    return gelu(True)


def compiled_softmax():
    return softmax(True)


def compiled_layer_norm():
    return layer_norm(True)


def compiled_cross_entropy():
    return cross_entropy(True)


def compiled_attention():
    return attention(True)


def adamw(**options):
    d, f = 384, 1536
    shapes = [(d, d), (d,)] * 4 + [(d,), (d,), (f, d), (f,), (d, f), (d,), (d,), (d,)]
    parameters = [torch.randn(shape, requires_grad=True) for _ in range(6) for shape in shapes]
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.AdamW(parameters, 1e-4, **options)
    return None, lambda _: optimizer.step()


def adamw_foreach():
    return adamw(foreach=True)


def adamw_fused():
    return adamw(fused=True)
