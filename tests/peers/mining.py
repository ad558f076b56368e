#!/usr/bin/env python3
"""Does `foils mine` find the negatives that sentence-transformers' mine_hard_negatives finds?

    python3 tests/peers/mining.py [--foils target/release/foils] [--out tests/peers/mining.json]

Mines the same pairs (docstring -> function, from the registered data set code-search) with the same encoder and settings on both
sides: each filter and window, prompts, a corpus beside the pairs, several positives for a query, repeated and copied rows, each output
format, random sampling by its window, and a transformer. Near-copies are looked for (`--near-copy`) in one comparison of its own,
because only foils does so. Makes the same environment as saved_models.py.

A query's row is equal when both sides give the same negatives in the same order. The others are counted by why they differ: `copies` (a
text is a copy, in normal form, of a positive, the query or another text, which foils leaves out), `longer` (foils looked further and found
more), `rounding` (equal but for the order of scores that differ by rounding), or `other`. Ends with 1 when fewer than 99.9 % of the rows
without copies are equal, unless the comparison is one that must differ and says why, or when a written file holds other rows.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

from common import arguments, data_folder, environment, record, write_rows

NEEDED = 0.999
# What f32 products may differ by when they are added up in another order.
ROUNDING = 2e-6
# An option, as theirs is called, and as ours is.
OPTIONS = {
    "num_negatives": "--num-negatives",
    "range_min": "--range-min",
    "range_max": "--range-max",
    "max_score": "--max-score",
    "min_score": "--min-score",
    "absolute_margin": "--absolute-margin",
    "relative_margin": "--relative-margin",
    "query_prompt": "--query-prompt",
    "corpus_prompt": "--document-prompt",
}


def normal(text):
    """The normal form in which foils compares texts."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


class Miners:
    """Both miners over one set of pairs with one encoder."""

    def __init__(self, foils, home, name, rows, model, folder, corpus=None):
        from datasets import Dataset

        self.foils, self.home, self.model, self.folder = foils, home / "data" / name, model, folder
        self.home.mkdir(parents=True)
        self.dataset = Dataset.from_list(rows)
        self.pairs = write_rows(self.home / "pairs.jsonl", rows)
        self.corpus = corpus
        self.more = ["--corpus", write_rows(self.home / "corpus.jsonl", [{"text": t} for t in corpus])] if corpus else []
        self.positives = {}
        for row in rows:
            known = self.positives.setdefault(row["anchor"], [])
            if row["positive"] not in known:
                known.append(row["positive"])
        # Normal forms that several texts have: foils keeps the first of them, with its score.
        forms = Counter(normal(t) for t in {*self.dataset["positive"], *(corpus or [])})
        self.twins = {form for form, count in forms.items() if count > 1}

    def theirs(self, **settings):
        from sentence_transformers.util import mine_hard_negatives

        with contextlib.redirect_stderr(io.StringIO()):
            return mine_hard_negatives(
                self.dataset, self.model, corpus=self.corpus, verbose=False, cache_folder=str(self.home / "vectors"), **settings
            )

    def ours(self, near_copy=0, extra=(), shape="lists", **settings):
        options = [o for name, value in settings.items() for o in (OPTIONS[name], str(value))]
        if "relative_margin" not in settings:
            options += ["--relative-margin", "off"]
        out, summary = self.home / "mined.jsonl", self.home / "mine.json"
        command = [self.foils, "mine", self.pairs, *self.more, "-o", str(out), "--encoder", self.folder, "--candidates", "dense"]
        command += ["--near-copy", str(near_copy), "--shape", shape, "--summary", str(summary), *options, *extra]
        subprocess.run(command, check=True, capture_output=True)
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        return rows, json.loads(summary.read_text(encoding="utf-8"))

    def lists(self, mined):
        """Their rows as {query: [(negative, score)]}: the first rows of a query are its positives."""
        found, seen = {query: [] for query in self.positives}, {}
        for row in mined:
            query = row["anchor"]
            seen[query] = seen.get(query, 0) + 1
            if seen[query] > len(self.positives[query]):
                found[query].append((row["positive"], row["score"]))
        return found

    def compare(self, near_copy=0, range_max_of_ours=None, **settings):
        """Row by row."""
        theirs = self.lists(self.theirs(output_format="labeled-pair", output_scores=True, **settings))
        window = {"range_max": range_max_of_ours} if range_max_of_ours else {}
        rows, summary = self.ours(near_copy=near_copy, **{**settings, **window})
        ours = {row["query"]: list(zip(row["neg"], row.get("neg_scores", []))) for row in rows}
        out = {"queries": len(theirs), "negatives": sum(map(len, theirs.values())), "equal": 0, "copies": 0, "longer": 0, "rounding": 0, "other": 0}
        most = 0.0
        for query, negatives in theirs.items():
            mine = ours.get(query)
            if mine is None:
                # Its text in normal form is that of another query.
                out["copies"] += 1
                continue
            why = "equal" if [t for t, _ in negatives] == [t for t, _ in mine] else self.reason(query, negatives, mine)
            out[why] += 1
            if why == "equal":
                most = max([most, *(abs(a[1] - b[1]) for a, b in zip(negatives, mine))])
        out["share_equal"] = out["equal"] / max(1, out["queries"] - out["copies"])
        out["largest_score_difference"] = most
        equal = summary["equal_to_positive"]
        removed = {r["filter"]: r["count"] for r in summary["removed"]}
        out["foils_removed"] = {
            "text_of_a_positive": equal["by_text"],
            "nearly_a_positive": equal["nearly"],
            "text_of_the_query": removed["equals_query"],
            "repeated_text": removed["repeated_text"],
        }
        return out

    def reason(self, query, theirs, ours):
        """Why a row differs."""
        gone = {normal(t) for t in [query, *self.positives[query]]}
        gone |= {normal(t) for other, texts in self.positives.items() if normal(other) == normal(query) for t in texts}
        left, copies = [], False
        for text, score in theirs:
            if normal(text) in gone:
                copies = True
            else:
                left.append((normal(text), score))
                gone.add(normal(text))
        mine = [(normal(t), s) for t, s in ours]
        if copies or any(normal(t) in self.twins for t, _ in theirs + ours):
            return "copies"
        same = all(a[0] == b[0] or abs(a[1] - b[1]) <= ROUNDING for a, b in zip(left, mine))
        return ("rounding" if len(left) == len(mine) else "longer" if len(mine) > len(left) else "other") if same else "other"


def static_encoder(foils, home):
    """wordllama as sentence-transformers has static encoders; the folder is what both sides load."""
    import torch
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    shipped = data_folder(foils, "wordllama")
    table = load_file(shipped / "model.safetensors")["embedding.weight"].to(torch.float32)
    tokenizer = Tokenizer.from_file(str(shipped / "tokenizer.json"))
    prompts = {"query": "find the code that does this: ", "document": "def "}

    def load(name, **options):
        SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu", **options).save(str(home / name))
        return SentenceTransformer(str(home / name), device="cpu"), str(home / name)

    return load("plain"), load("prompted", prompts=prompts)


def read(path):
    text = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout.decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def formats(miners, report):
    """Each output format, row by row, with scores and without. Ours has one list a query, theirs one for each positive of it."""
    failed = False
    settings = {"num_negatives": 3, "relative_margin": 0.1, "range_max": 12}
    shapes = {"triplet": "triplets", "n-tuple": "n-tuples", "labeled-pair": "labeled-pairs", "labeled-list": "labeled-lists"}
    for theirs, shape in shapes.items():
        for scores in [False, True]:
            expected = [list(row.values()) for row in miners.theirs(output_format=theirs, output_scores=scores, **settings)]
            got, _ = miners.ours(shape=shape, extra=["--output-scores"] if scores else [], **settings)
            got = [list(row.values()) for row in got]

            def flat(row):
                """Numbers, of which scores are rounded, and texts of a row."""
                cells = [c for cell in row for c in (cell if isinstance(cell, list) else [cell])]
                return [round(c, 4) if isinstance(c, float) else c for c in cells]

            equal = sum(len(a) == len(b) and close(flat(a), flat(b)) for a, b in zip(expected, got))
            name = theirs + (" with scores" if scores else "")
            report[name] = {"theirs": len(expected), "ours": len(got), "equal": equal}
            print(name, report[name], file=sys.stderr)
            failed |= len(expected) != len(got) or equal < NEEDED * len(expected)
    return failed


def close(a, b):
    return len(a) == len(b) and all(abs(x - y) < 2e-4 if isinstance(x, float) else x == y for x, y in zip(a, b))


def windows(miners, report):
    """Random sampling: both draw from the same window, which is compared as a list; each draw lies in it."""
    settings = {"range_min": 2, "range_max": 14, "relative_margin": 0.05}
    whole = {q: {t for t, _ in n} for q, n in miners.lists(miners.theirs(output_format="labeled-pair", output_scores=True, num_negatives=12, **settings)).items()}
    report["the whole window"] = compared = miners.compare(num_negatives=12, **settings)
    theirs = miners.lists(miners.theirs(output_format="labeled-pair", output_scores=True, num_negatives=4, sampling_strategy="random", **settings))
    ours, _ = miners.ours(num_negatives=4, extra=["--sampling", "random"], **settings)
    ours = {row["query"]: row["neg"] for row in ours}
    inside = {
        "theirs": sum({t for t, _ in n} <= whole[q] for q, n in theirs.items()),
        "ours": sum(set(n) <= whole[q] for q, n in ours.items()),
        "as_many_of_each_query": sum(len(n) == len(ours[q]) for q, n in theirs.items()),
    }
    report["draws inside the window"] = {"queries": len(whole), **inside}
    return compared["share_equal"] < NEEDED or any(count < NEEDED * len(whole) for count in inside.values())


def with_positives(miners, report):
    """include_positives gives a ranking with the positives in it: that is what `foils eval --run` writes."""
    run = miners.home / "out.run"
    command = [miners.foils, "eval", miners.pairs, "--model", miners.folder, "--k", "10", "--draws", "10", "--run", str(run)]
    subprocess.run(command, check=True, capture_output=True)
    # Queries and documents are numbered as they appear.
    queries, documents = list(miners.positives), list(dict.fromkeys(t for texts in [miners.dataset["positive"]] for t in texts))
    ours = {}
    for line in run.read_text(encoding="utf-8").splitlines():
        query, _, document, *_ = line.split()
        ours.setdefault(queries[int(query[1:])], []).append(documents[int(document[1:])])
    theirs = {}
    for row in miners.theirs(output_format="n-tuple", include_positives=True, num_negatives=10):
        theirs[row["anchor"]] = [row[f"negative_{i}"] for i in range(1, 11)]
    equal = sum(ours[q][:10] == n for q, n in theirs.items())
    report["include_positives, and the run of `foils eval`"] = {"queries": len(theirs), "equal": equal, "share_equal": equal / len(theirs)}
    return equal < NEEDED * len(theirs)


def main():
    options = arguments()
    environment()
    os.environ["TQDM_DISABLE"] = "1"

    import datasets
    import sentence_transformers
    import torch
    from sentence_transformers import SentenceTransformer

    report = {
        "sentence_transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
        "datasets": datasets.__version__,
        "needed_share": NEEDED,
        "settings": {},
        "formats": {},
        "random": {},
        "rankings": {},
    }
    failed = False
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        (static, folder), (prompted, prompted_folder) = static_encoder(options.foils, home)
        code = read(data_folder(options.foils, "code-search") / "train.jsonl.zst")
        pairs = [{"anchor": r["anchor"], "positive": r["positive"]} for r in code[:3000]]
        # The query is the function's name, which many functions have: up to eight positives, scattered over the rows.
        named = {}
        for r in code:
            named.setdefault(r["name"].rsplit(".", 1)[-1].replace("_", " ").strip().lower(), []).append(r["positive"])
        shared = {name: texts[:8] for name, texts in named.items() if name and len(texts) > 1}
        alone = {name: texts for name, texts in named.items() if name and len(texts) == 1}
        names = [*shared.items(), *list(alone.items())[:1000]]
        rows = [{"anchor": name, "positive": text} for i in range(8) for name, texts in names for text in texts[i : i + 1]]
        report["positives_of_a_query"] = {"queries": len(shared) + 1000, "with_several": len(shared), "positives": len(rows)}
        corpus = [r["positive"] for split in ["validation", "test"] for r in read(data_folder(options.foils, "code-search") / f"{split}.jsonl.zst")]

        def miners(name, rows, model=static, encoder=folder, corpus=None):
            return Miners(options.foils, home, name, rows, model, encoder, corpus)

        def compare(name, of, differs_because=None, **settings):
            """A comparison that differs for a reason says which; all others must be equal."""
            nonlocal failed
            result = of.compare(**settings)
            report["settings"][name] = {"settings": settings, **result, **({"differs_because": differs_because} if differs_because else {})}
            print(name, result, file=sys.stderr)
            failed |= differs_because is None and result["share_equal"] < NEEDED

        plain = miners("pairs", pairs)
        failed |= formats(plain, report["formats"])
        failed |= windows(plain, report["random"])
        failed |= with_positives(plain, report["rankings"])
        print(report["random"], report["rankings"], file=sys.stderr)
        compare("pairs, near-copies removed", plain, "only foils removes near-copies of a positive", near_copy=0.9, num_negatives=5)
        compare("the prompts that the encoder's folder has", miners("prompted", pairs, prompted, prompted_folder), num_negatives=5, relative_margin=0.05)
        many = miners("several", rows)
        for settings in [{}, {"relative_margin": 0.05}, {"absolute_margin": 0.1, "range_min": 2}, {"relative_margin": 0.05, "range_max": 10}]:
            settings = {"num_negatives": 5, **settings}
            compare("several positives: " + ", ".join(f"{k} {v!r}" for k, v in settings.items()), many, **settings)
        beside = miners("corpus", pairs[:2000], corpus=corpus)
        for settings in [{}, {"relative_margin": 0.05, "range_min": 1}]:
            settings = {"num_negatives": 5, **settings}
            compare("a corpus beside the pairs: " + ", ".join(f"{k} {v!r}" for k, v in settings.items()), beside, **settings)
        settings = {"num_negatives": 5, "relative_margin": 0.05}
        repeated = miners("repeated", pairs[:2000] + pairs[:300])
        compare("repeated rows", repeated, "theirs counts a repeated row as one more positive, and looks as much further", **settings)
        # Theirs looks at range_max + positives = (50 + 2) + 2 candidates, ours at range_max + 1.
        compare("repeated rows, as many candidates", repeated, range_max_of_ours=53, **settings)
        copied = pairs[:2000] + [{"anchor": r["anchor"] + " ", "positive": r["positive"].replace("    ", "  ")} for r in pairs[:300]]
        copied += [{"anchor": r["positive"], "positive": r["anchor"]} for r in pairs[300:400]]
        copied = miners("copied", copied)
        why = "foils takes texts of one normal form for one text, and no document that is the query"
        compare("copied rows", copied, why, **settings)
        minilm = data_folder(options.foils, "minilm")
        transformer = miners("minilm", pairs[:600], SentenceTransformer(str(minilm), device="cpu"), "minilm")
        for settings in [{}, {"relative_margin": 0.05}, {"absolute_margin": 0.1, "max_score": 0.5}]:
            settings = {"num_negatives": 5, **settings}
            compare("minilm: " + ", ".join(f"{k} {v!r}" for k, v in settings.items()), transformer, **settings)
        for settings in [
            {},
            {"num_negatives": 1},
            {"num_negatives": 30},
            {"range_min": 10},
            {"range_min": 5, "range_max": 40},
            {"max_score": 0.5},
            {"min_score": 0.4},
            {"max_score": 0.6, "min_score": 0.3},
            {"absolute_margin": 0.0},
            {"absolute_margin": 0.05},
            {"absolute_margin": -0.05},
            {"relative_margin": 0.05},
            {"relative_margin": 0.3},
            {"relative_margin": 0.05, "range_max": 8},
            {"relative_margin": 0.05, "absolute_margin": 0.02, "max_score": 0.7, "min_score": 0.2, "range_min": 3, "range_max": 60},
            {"query_prompt": "query: ", "corpus_prompt": "code: ", "relative_margin": 0.05},
        ]:
            settings = {"num_negatives": 5, **settings}
            compare("pairs: " + ", ".join(f"{k} {v!r}" for k, v in settings.items()), plain, **settings)
    record(report, options.out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
