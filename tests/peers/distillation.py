#!/usr/bin/env python3
"""What do sentence-transformers' losses with a teacher give, in f64? The unit tests of foils hold its own to the numbers recorded here.

    python3 tests/peers/distillation.py --out tests/peers/distillation.json

MarginMSELoss and DistillKLDivLoss on a positive and three negatives of each anchor, and GISTEmbedLoss on in-batch candidates and a
negative of each anchor, with the contrasts among anchors and among positives off, since foils has none. Values and gradients.
Uses the environment of saved_models.py.
"""

import argparse
import json
from pathlib import Path

from common import environment

ANCHORS, NEGATIVES, WIDTH, TEACHER_WIDTH = 5, 3, 4, 3


def guided(students, teachers, options):
    """GISTEmbedLoss of given vectors."""
    import torch
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    class Given(torch.nn.Module):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"x": 0}, unk_token="x")))
        max_seq_length = 1

        def __init__(self, which):
            super().__init__()
            self.which = which

        def forward(self, features):
            return {"sentence_embedding": features[self.which]}

    loss = GISTEmbedLoss(Given("student"), Given("teacher"), contrast_anchors=False, contrast_positives=False, **options)
    return loss([{"student": s, "teacher": t} for s, t in zip(students, teachers)], None)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    environment()

    import sentence_transformers
    import torch
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
    from sentence_transformers.util import pairwise_cos_sim, pairwise_dot_score

    draw = torch.Generator().manual_seed(7)

    def random(*shape):
        # f32 numbers, so that a teacher's scores are the same in both.
        return torch.randn(*shape, generator=draw).double()

    def case(loss, columns, value, **more):
        value.backward()
        grads = [c.grad.flatten().tolist() for c in columns]
        columns = [c.detach().flatten().tolist() for c in columns]
        return {"loss": loss, "columns": columns, "value": value.item(), "gradients": grads, **more}

    cases = []
    for similarity, score in {"cosine": pairwise_cos_sim, "dot": pairwise_dot_score}.items():
        for temperature, teacher_temperature in [(None, 1.0), (None, 2.0), (1.0, 1.0), (0.05, 0.05), (0.5, 2.0)]:
            columns = [random(ANCHORS, WIDTH).requires_grad_() for _ in range(2 + NEGATIVES)]
            teacher = random(ANCHORS, 1 + NEGATIVES)
            if temperature is None:
                name, loss = "margin-mse", MarginMSELoss(None, similarity_fct=score)
            else:
                options = {"student_temperature": temperature, "teacher_temperature": teacher_temperature}
                name, loss = "kl", DistillKLDivLoss(None, similarity_fct=score, **options)
            # MarginMSELoss takes the teacher's scores as they are.
            value = loss.compute_loss_from_embeddings(columns, teacher / teacher_temperature if temperature is None else teacher)
            more = {"similarity": similarity, "temperature": temperature, "teacher_temperature": teacher_temperature}
            cases.append(case(name, columns, value, teacher=teacher.flatten().tolist(), **more))
    for kind, margin in [("absolute", 0.0), ("absolute", 0.1), ("relative", 0.05), ("relative", 0.5)]:
        columns = [random(ANCHORS, WIDTH).requires_grad_() for _ in range(3)]
        teachers = [random(ANCHORS, TEACHER_WIDTH) for _ in range(3)]
        options = {"temperature": 0.05, "margin_strategy": kind, "margin": margin}
        value = guided(columns, teachers, options)
        cases.append(case("gist", columns, value, teachers=[t.flatten().tolist() for t in teachers], **options))
    sizes = {"anchors": ANCHORS, "width": WIDTH, "teacher_width": TEACHER_WIDTH}
    versions = {"sentence_transformers": sentence_transformers.__version__, "torch": torch.__version__}
    lines = ",\n".join(json.dumps(c) for c in cases)
    text = json.dumps({**versions, **sizes})[:-1] + ', "cases": [\n' + lines + "\n]}"
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
