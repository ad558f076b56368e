"""Exact top-k of FAISS over the vectors of `crates/foils-kernels/benches/topk.rs`, bit for bit.

    FOILS_TOPK_INDICES=FILE cargo bench -p foils-kernels --bench topk -- topk-100k
    python topk.py check FILE [CLUSTERS]      # our indices are FAISS's, up to its ties
"""

import os
import sys

# The OpenBLAS in FAISS's wheel does not know newer processors and then takes kernels that are five times slower.
if os.path.exists("/proc/cpuinfo") and " avx512bw " in open("/proc/cpuinfo").read():
    os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")

import faiss
import numpy as np

faiss.omp_set_num_threads(2)
QUERIES, DOCUMENTS, DIM, K = 10_000, 100_000, 384, 50
U64 = np.uint64


def random(at):
    """SplitMix64."""
    z = (at + U64(1)) * U64(0x9E3779B97F4A7C15)
    z = (z ^ z >> U64(30)) * U64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> U64(27)) * U64(0x94D049BB133111EB)
    return z ^ z >> U64(31)


def centred(at):
    """The sum of the 8 bytes of a random number, less its mean."""
    return random(at).view(np.uint8).reshape(*at.shape, 8).sum(axis=-1, dtype=np.int64) - 1020


def unit_vectors(stream, rows, clusters=0):
    out = np.empty((rows, DIM), np.float32)
    columns = np.arange(DIM, dtype=U64)
    for first in range(0, rows, 5000):
        row = np.arange(first, min(first + 5000, rows), dtype=U64)
        values = centred(U64(stream << 40) | (row[:, None] * U64(DIM) + columns))
        if clusters:
            cluster = random(U64(3 << 40 | stream << 36) | row) % U64(clusters)
            values = values + centred(U64(4 << 40) | (cluster[:, None] * U64(DIM) + columns))
        out[first : first + len(row)] = values / np.sqrt((values * values).sum(axis=1, dtype=np.float64))[:, None]
    return out


def flat(clusters=0):
    """The index is built before: it copies the documents, which is memory of the job but not time."""
    index = faiss.IndexFlatIP(DIM)
    index.add(unit_vectors(2, DOCUMENTS, clusters))
    return unit_vectors(1, QUERIES, clusters), lambda queries: index.search(queries, K)


def flat_clustered():
    return flat(1000)


def check(path, clusters=0):
    ours = np.fromfile(path, np.uint32).reshape(QUERIES, K)
    queries, search = flat(clusters)
    scores, theirs = search(queries)
    documents = unit_vectors(2, DOCUMENTS, clusters)
    different = 0
    for query, (a, b) in enumerate(zip(ours, theirs)):
        if np.array_equal(a, b):
            continue
        different += 1
        exact = documents[a].astype(np.float64) @ queries[query].astype(np.float64)
        # Rank by rank the true score is FAISS's within the rounding of its f32 sums.
        assert np.abs(exact - scores[query]).max() < 2e-6, f"query {query}"
        assert (np.diff(exact.astype(np.float32)) <= 0).all(), f"query {query} is not in order"
    print(f"{QUERIES - different} queries have the same indices in the same order; in {different}, documents within 2e-6 of each other swap")


if __name__ == "__main__" and sys.argv[1:2] == ["check"]:
    check(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0)
