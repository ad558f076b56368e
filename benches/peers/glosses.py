#!/usr/bin/env python3
"""The glosses of WordNet as token ids, for the BM25 jobs: `python3 benches/peers/glosses.py` writes them once to the user's cache.

A document is the gloss of a synset, cut into lower-case words; an id is given to a word at its first appearance. There are
5,000 queries of each kind, of evenly spaced synsets: `long` is the gloss (a miner's query is the text of the anchor), `short` the
words of the first lemma that the glosses know, which is what somebody would type. Each of `documents`, `long` and `short` is two files of little-endian u32,
NAME.tokens and NAME.lengths. Ours and the peers' read the same files.
"""

import array
import os
import re
import sys
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
SOURCE = Path(os.environ.get("FOILS_CACHE", CACHE / "foils")) / "wordnet"
FOLDER = CACHE / "foils-peers" / "glosses"
QUERIES = 5000


def words(text):
    """Maximal runs of letters and digits, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


def synsets():
    """(words of the first lemma, words of the gloss) of every synset."""
    for part in ["noun", "verb", "adj", "adv"]:
        with open(SOURCE / f"data.{part}", encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith("  "):  # the licence
                    head, gloss = line.split(" | ", 1)
                    yield words(head.split()[4].replace("_", " ")), words(gloss)


def write(name, texts):
    for kind, numbers in [("tokens", [t for text in texts for t in text]), ("lengths", [len(text) for text in texts])]:
        out = array.array("I", numbers)
        assert out.itemsize == 4
        if sys.byteorder == "big":
            out.byteswap()
        (FOLDER / f"{name}.{kind}").write_bytes(out.tobytes())


def make():
    if not SOURCE.exists():
        sys.exit("WordNet is not in the cache: run `foils data get wordnet` first")
    vocabulary = {}
    lemmas, glosses = zip(*synsets())
    documents = [[vocabulary.setdefault(word, len(vocabulary)) for word in gloss] for gloss in glosses]
    short = [[vocabulary[word] for word in lemma if word in vocabulary] for lemma in lemmas]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, texts in [("long", documents), ("short", short)]:
        texts = [text for text in texts if text]
        write(name, texts[:: len(texts) // QUERIES][:QUERIES])
    write("documents", documents)


def load(name):
    """The texts of one kind, as lists of token ids."""
    read = lambda kind: array.array("I", (FOLDER / f"{name}.{kind}").read_bytes())
    tokens, texts, at = read("tokens").tolist(), [], 0
    for length in read("lengths"):
        texts.append(tokens[at : at + length])
        at += length
    return texts


if __name__ == "__main__":
    if not (FOLDER / "documents.lengths").exists():
        make()
