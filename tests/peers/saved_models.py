#!/usr/bin/env python3
"""Do folders that foils saves load in sentence-transformers as they are, with the same embeddings?

    python3 tests/peers/saved_models.py [--foils target/release/foils] [--out tests/peers/saved_models.json]

Makes a Python environment with sentence-transformers from PyPI in the user's cache folder (several GB at the first run, because
the torch of PyPI for Linux brings CUDA), trains a small static encoder and an adapter of each form with the foils binary, loads each
folder with `SentenceTransformer(folder)`, and compares its embeddings with those of `foils embed`. Ends with 1 when a cosine is
below 0.9999.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = 0.9999
PACKAGES = ["sentence-transformers>=5", "tensorboard", "peft"]


def environment():
    """Runs this script again inside an environment that has the peer, unless it already is."""
    try:
        import peft  # noqa: F401
        import sentence_transformers  # noqa: F401
        import tensorboard  # noqa: F401
        return
    except ImportError:
        pass
    if os.environ.get("FOILS_PEER_ENV"):
        sys.exit("sentence-transformers could not be installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "foils-peers" / "sentence-transformers"
    python = cache / "bin" / "python"
    if not python.exists():
        venv.create(cache, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    os.execve(python, [str(python), *sys.argv], {**os.environ, "FOILS_PEER_ENV": "1"})


def texts():
    """A few hundred pairs made of this repository's own sources, and texts that are hard to tokenise."""
    pairs = []
    for path in sorted(ROOT.glob("crates/*/src/**/*.rs")):
        comment = []
        body = []
        for line in path.read_text(encoding="utf-8").splitlines():
            stripped = line.strip()
            if stripped.startswith("///"):
                if body and comment:
                    pairs.append((" ".join(comment), "\n".join(body)))
                    comment, body = [], []
                comment.append(stripped[3:].strip())
            elif stripped and len(body) < 40:
                body.append(line)
    pairs = [p for p in pairs if p[0].strip()][:400]
    odd = ["x", "naïve café — “quotes” … ∑∂ ✓", "日本語のテキスト", "tabs\tand\u00a0spaces   many", "🦀🦀", "word " * 2000, "</s> <unk> <s>", "\u200b zero"]
    return pairs, odd


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--foils", default=ROOT / "target" / "release" / "foils", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    environment()

    import numpy
    import sentence_transformers
    import tokenizers
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    foils = str(arguments.foils.resolve())
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
            path = home / name
            path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
            return str(path)

        split = len(pairs) * 3 // 4
        named = [{"anchor": a, "positive": p} for a, p in pairs]
        train, held_out = write("train.jsonl", named[:split]), write("held-out.jsonl", named[split:])
        every = [t for pair in pairs for t in pair] + odd
        inputs = write("texts.jsonl", [{"text": t} for t in every])
        for name, options in {
            "static": ["--learning-rate", "0.02"],
            "adapter-linear": ["--adapter", "linear", "--learning-rate", "0.001"],
            "adapter-relu": ["--adapter", "relu", "--learning-rate", "0.001"],
            "adapter-gelu": ["--adapter", "gelu", "--learning-rate", "0.001"],
        }.items():
            folder = str(home / name)
            command = [foils, "train", train, "--validation", held_out, "-o", folder, "--epochs", "2", "--batch-size", "64", "--json"]
            summary = json.loads(subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout)
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
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 0 if worst >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
