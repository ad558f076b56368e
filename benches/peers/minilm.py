"""sentence-transformers with all-MiniLM-L6-v2: a training step on 8 pairs of 64 tokens, and the vectors of 1,000 texts."""

import os
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "peers"))
from common import ROOT, data_folder

torch.set_num_threads(2)
torch.manual_seed(0)


def load():
    from sentence_transformers import SentenceTransformer

    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return SentenceTransformer(str(data_folder(target / "release" / "foils", "minilm")), device="cpu")


def text(t, n):
    """Text number t, of n words; crates/foils/benches/steps.rs has the same."""
    words = ["cat", "dog", "house", "river", "stone", "green", "seven", "night"]
    return " ".join(words[(t * 5 + i * (t + 1)) % 8] for i in range(n))


def step():
    """Forward, backward and fused AdamW of the usual loss."""
    try:
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    except ImportError:
        from sentence_transformers.losses import MultipleNegativesRankingLoss

    model = load()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # ours has none
    loss = MultipleNegativesRankingLoss(model)
    texts = [text(t, 62) for t in range(16)]
    tokenize = getattr(model, "preprocess", None) or model.tokenize
    features = [tokenize(texts[:8]), tokenize(texts[8:])]
    assert all(f["input_ids"].shape == (8, 64) for f in features)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, fused=True)

    def run(_):
        optimizer.zero_grad()
        value = loss([dict(f) for f in features], None)
        value.backward()
        optimizer.step()
        return value.item()

    run.warm = 3
    return None, run


def encode():
    """As users call it; tokenising included."""
    model = load()
    lengths = [3, 8, 15, 30, 60, 120, 180]
    texts = [text(t, lengths[t * 13 % 7]) for t in range(1000)]
    return texts, lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


if __name__ == "__main__":
    # The command, which fetches the model.
    subprocess.run(["cargo", "build", "--quiet", "--release", "--workspace", "--bins"], cwd=ROOT, check=True)
    load()
