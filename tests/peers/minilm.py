#!/usr/bin/env python3
"""Does the transformer of foils give the embeddings of sentence-transformers, as shipped and after training?

    python3 tests/peers/minilm.py [--foils target/release/foils] [--out tests/peers/minilm.json]

Embeds 1,000 texts of 1 token to beyond where MiniLM cuts, odd ones among them, with `foils embed` and with sentence-transformers: with
all-MiniLM-L6-v2 as its package has it, after a short training of all its weights, and after one of low-rank updates, whose files peft
reads too. Makes the same environment as saved_models.py. Ends with 1 when a cosine is below 0.9999.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, data_folder, environment, record, write_rows
from common import texts as pairs_and_odd

NEEDED = 0.9999

ODD = ["[CLS] [SEP] [MASK] [PAD] [UNK]", "ÀÉÎÕÜ ÅNGSTRÖM", "İstanbul ıI", "한국어 텍스트", "العربية نص", "e\u0301 \u0301 combining", "a" * 300,
       "ﬁ ligature ½ ²", "क्षेत्र हिन्दी", "!!!???...---", "1234567890 " * 100, "\ufffd\u00ad\u200d", "x\u0001y", "don't I'm"]


def all_texts(vocabulary, odd):
    """The odd ones, then words drawn from the vocabulary: many short texts, some longer than the limit."""
    draw = random.Random(1)
    words = [w for w in vocabulary if w.isalpha()]
    out = odd + ODD
    while len(out) < 1000:
        out.append(" ".join(draw.choices(words, k=1 + int(320 * (len(out) / 1000) ** 4))))
    return out


def compare_random(shipped, home, texts, embed, write, report):
    """A random BERT in F16 with the shipped tokenizer, saved by sentence-transformers with each pooling; by role, with its prompts."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 128}
    bert = BertModel(BertConfig(vocab_size=30522, **sizes))
    for parameter in bert.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    base = home / "random"
    bert.half().save_pretrained(base)
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"]:
        shutil.copy(shipped / name, base)
    inputs, worst = write("some.jsonl", [{"text": t} for t in texts]), 1.0
    for pooling in ["cls", "max", "mean"]:
        transformer = models.Transformer(str(base), max_seq_length=100, model_kwargs={"dtype": torch.float32})
        dense = models.Dense(64, 32, activation_function=torch.nn.Tanh())
        modules = [transformer, models.Pooling(64, pooling_mode=pooling), dense, models.Normalize()]
        prompts = {"query": "query: ", "document": "passage: "}
        python = SentenceTransformer(modules=modules, device="cpu", prompts=prompts)
        folder = str(home / pooling)
        python.save(folder)
        for role, encode in {"query": python.encode_query, "document": python.encode_document}.items():
            cosine = (embed(folder, inputs, "--role", role) * encode(texts).astype("float64")).sum(1)
            report["models"][f"random, {pooling}, dense layer, {role} prompt"] = {"texts": len(texts), "smallest_cosine": float(cosine.min())}
            worst = min(worst, float(cosine.min()))
    return worst


def main():
    options = arguments()
    environment()

    import numpy
    import peft
    import sentence_transformers
    import tokenizers
    import torch
    from sentence_transformers import SentenceTransformer

    foils = options.foils
    report = {
        "sentence_transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
        "tokenizers": tokenizers.__version__,
        "peft": peft.__version__,
        "needed_cosine": NEEDED,
        "models": {},
    }
    worst = 1.0
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)

        def write(name, rows):
            return write_rows(home / name, rows)

        def embed(model, file, *more):
            vectors = str(home / "vectors.npy")
            subprocess.run([foils, "embed", file, "--model", model, "-o", vectors, "--no-embedding-cache", *more], check=True, capture_output=True)
            return numpy.load(vectors).astype("float64")

        def compare(name, model, python):
            ours = embed(model, inputs)
            theirs = python.encode(every, batch_size=32).astype("float64")
            cosine = (ours * theirs).sum(1) / (numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(theirs, axis=1))
            report["models"][name] = {
                "texts": len(every),
                "smallest_cosine": float(cosine.min()),
                "largest_difference": float(abs(ours - theirs).max()),
            }
            return float(cosine.min())

        shipped = str(data_folder(foils, "minilm"))
        pairs, odd = pairs_and_odd()
        every = all_texts((Path(shipped) / "vocab.txt").read_text(encoding="utf-8").split("\n"), odd)
        inputs = write("texts.jsonl", [{"text": t} for t in every])
        worst = min(worst, compare("as shipped", "minilm", SentenceTransformer(shipped, device="cpu")))

        named = [{"anchor": a, "positive": p[:400]} for a, p in pairs[:128]]
        train, held_out = write("train.jsonl", named[:96]), write("held-out.jsonl", named[96:])
        for name, extra in {"trained": [], "low-rank updates": ["--lora", "4", "--lora-targets", "query,value,narrow"]}.items():
            folder = str(home / name)
            command = [foils, "train", train, "--validation", held_out, "-o", folder, "--encoder", "minilm", "--epochs", "2"]
            command += ["--batch-size", "16", "--validate-every", "3", "--json", *extra]
            summary = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            worst = min(worst, compare(name, folder, SentenceTransformer(folder, device="cpu")))
            report["models"][name]["training_changed_it"] = summary["improved"]
        updated = SentenceTransformer(shipped, device="cpu")
        name = "model" if hasattr(updated[0], "model") else "auto_model"
        setattr(updated[0], name, peft.PeftModel.from_pretrained(updated[0].auto_model, str(home / "low-rank updates" / "lora")))
        worst = min(worst, compare("low-rank updates read by peft", str(home / "low-rank updates" / "lora"), updated))
        worst = min(worst, compare_random(Path(shipped), home, every[:200], embed, write, report))
    record(report, options.out)
    return 0 if worst >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
