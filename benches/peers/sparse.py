"""Propagation along the edges of a random graph: a CSR matrix times a dense one in PyTorch (MKL) and scipy."""

import warnings

import numpy
import torch

torch.set_num_threads(2)
warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
NODES, EDGES, DIM = 10_000, 200_000, 64


def graph():
    import scipy.sparse

    rng = numpy.random.default_rng(0)
    row, column = rng.integers(0, NODES, (2, EDGES))
    values = rng.random(EDGES, dtype=numpy.float32)
    return scipy.sparse.csr_matrix((values, (row, column)), shape=(NODES, NODES))


def in_torch(matrix):
    parts = [torch.from_numpy(matrix.indptr), torch.from_numpy(matrix.indices), torch.from_numpy(matrix.data)]
    return torch.sparse_csr_tensor(*parts, size=matrix.shape)


def torch_forward():
    a = in_torch(graph())
    return torch.randn(NODES, DIM), lambda x: a @ x


def torch_both():
    """The transpose is made once, as ours."""
    matrix = graph()
    a, transpose = in_torch(matrix), in_torch(matrix.T.tocsr())
    return torch.randn(NODES, DIM), lambda x: transpose @ (a @ x)


def scipy_forward():
    a = graph()
    return numpy.random.default_rng(1).random((NODES, DIM), dtype=numpy.float32), lambda x: a @ x
