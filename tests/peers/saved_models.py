#!/usr/bin/env python3
"""Do folders that foils saves load in sentence-transformers as they are, with the same embeddings?

    python3 tests/peers/saved_models.py [--foils target/release/foils] [--out tests/peers/saved_models.json]

Makes a Python environment with sentence-transformers from PyPI in the user's cache folder (several GB at the first run, because
the torch of PyPI for Linux brings CUDA), trains a small static encoder and an adapter of each form with the foils binary, loads each
folder with `SentenceTransformer(folder)`, and compares its embeddings with those of `foils embed`. Ends with 1 when a cosine is
below 0.9999.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, environment, record, texts, write_rows

NEEDED = 0.9999


def main():
    options = arguments()
    environment()

    import numpy
    import sentence_transformers
    import tokenizers
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    foils = options.foils
    pairs, odd = texts()
    report = {
        "sentence_transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
        "tokenizers": tokenizers.__version__,
        "needed_cosine": NEEDED,
        "models": {},
    }
    worst = 1.0
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)

        def write(name, rows):
            return write_rows(home / name, rows)

        split = len(pairs) * 3 // 4
        named = [{"anchor": a, "positive": p} for a, p in pairs]
        train, held_out = write("train.jsonl", named[:split]), write("held-out.jsonl", named[split:])
        every = [t for pair in pairs for t in pair] + odd
        inputs = write("texts.jsonl", [{"text": t} for t in every])
        for name, extra in {
            "static": ["--learning-rate", "0.02"],
            "adapter-linear": ["--adapter", "linear", "--learning-rate", "0.001"],
            "adapter-relu": ["--adapter", "relu", "--learning-rate", "0.001"],
            "adapter-gelu": ["--adapter", "gelu", "--learning-rate", "0.001"],
        }.items():
            folder = str(home / name)
            command = [foils, "train", train, "--validation", held_out, "-o", folder, "--epochs", "2", "--batch-size", "64", "--json"]
            summary = json.loads(subprocess.run([*command, *extra], check=True, capture_output=True, text=True).stdout)
            vectors = str(home / f"{name}.npy")
            subprocess.run([foils, "embed", inputs, "--model", folder, "-o", vectors], check=True, capture_output=True)
            ours = numpy.load(vectors).astype("float64")
            model = sentence_transformers.SentenceTransformer(folder, device="cpu")
            theirs = model.encode(every, batch_size=64).astype("float64")
            cosine = (ours * theirs).sum(1) / (numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(theirs, axis=1))
            events = EventAccumulator(folder + "-logs")
            events.Reload()
            steps = len(events.Scalars("train/loss"))
            assert steps == summary["steps"][-1]["step"], f"TensorBoard reads {steps} steps"
            report["models"][name] = {
                "modules": [type(m).__name__ for m in model],
                "trained": summary["improved"],
                "texts": len(every),
                "smallest_cosine": float(cosine.min()),
                "largest_difference": float(abs(ours - theirs).max()),
                "tensorboard_points": {tag: len(events.Scalars(tag)) for tag in sorted(events.Tags()["scalars"])},
            }
            worst = min(worst, float(cosine.min()))
    record(report, options.out)
    return 0 if worst >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
