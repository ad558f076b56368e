"""GroCo's group ordering loss as its authors compute it: the whole permutation by the diffsort package, and its gradients."""

import torch
from diffsort import DiffSortNet

torch.set_num_threads(2)
ANCHORS, POSITIVES, NEGATIVES = 128, 10, 10


def group_ordering():
    network = DiffSortNet("odd_even", POSITIVES + NEGATIVES, steepness=1.0, distribution="cauchy")
    target = torch.cat([torch.zeros(ANCHORS, NEGATIVES), torch.ones(ANCHORS, POSITIVES)], 1)
    entropy = torch.nn.functional.binary_cross_entropy

    def step(scores):
        positives, negatives = (s.clone().requires_grad_() for s in scores)
        ordered = torch.cat([negatives.sort(1).values, positives.sort(1).values], 1)
        _, permutation = network(ordered)
        above = permutation[:, :, NEGATIVES:].sum(2).clamp(0, 1)
        below = permutation[:, :, :NEGATIVES].sum(2).clamp(0, 1)
        loss = (entropy(above, target) + entropy(below, 1 - target)) / 2
        loss.backward()
        return positives.grad, negatives.grad

    scores = [torch.rand(ANCHORS, n) * 2 - 1 for n in (POSITIVES, NEGATIVES)]
    return scores, step
