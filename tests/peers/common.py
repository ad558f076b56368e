"""What the comparisons with sentence-transformers share: their Python environment, their arguments, and texts."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What is installed, and what it is imported as.
PACKAGES = {"sentence-transformers>=5.6": "sentence_transformers", "tensorboard": "tensorboard", "peft": "peft", "datasets": "datasets"}


def environment():
    """Runs the script again inside an environment that has the peers, unless it already is."""
    if all(importlib.util.find_spec(module) for module in PACKAGES.values()):
        return
    if os.environ.get("FOILS_PEER_ENV"):
        sys.exit("sentence-transformers could not be installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "foils-peers" / "sentence-transformers"
    python = cache / "bin" / "python"
    if not python.exists():
        venv.create(cache, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    os.execve(python, [str(python), *sys.argv], {**os.environ, "FOILS_PEER_ENV": "1"})


def arguments():
    """The binary to compare with, by its full path, and where to record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--foils", default=ROOT / "target" / "release" / "foils", type=Path)
    parser.add_argument("--out", type=Path)
    parsed = parser.parse_args()
    parsed.foils = str(parsed.foils.resolve())
    return parsed


def record(report, out):
    """Prints the report, and writes it where it is to be recorded."""
    text = json.dumps(report, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


def write_rows(path, rows):
    """Writes JSON objects, one a line; gives the path as a string."""
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def data_folder(foils, name):
    """The folder of a registered data set, which is fetched if it is not there."""
    return Path(json.loads(subprocess.run([foils, "data", "get", name, "--json"], check=True, capture_output=True, text=True).stdout)[name])


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
