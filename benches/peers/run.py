#!/usr/bin/env python3
"""Times foils' kernels beside their peers, in one run, on this machine.

    python3 benches/peers/run.py [JOB ...] [--rounds 2] [--list]

Makes a Python environment with the peers from PyPI in the user's cache folder (several GB at the first run, because the torch of
PyPI for Linux brings CUDA), builds the Rust benchmarks, and runs each job in processes of its own, ours and the peers' in turn
(A B A B), with 2 threads. Writes what it measured to benches/peers/results.json and the tables in benches/README.md from it.
Run it on an idle machine.

A job is a benchmark of a crate (its target and the job's name) and the peers' functions, each in a file beside this one:
a function takes nothing and returns (prepared input, step), and `measure.py` times step(input). Where a job names a program
under `prepare`, that makes its data first, unless they are there.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results.json"
README = ROOT / "benches" / "README.md"
THREADS = "2"
PACKAGES = [
    "torch==2.15.0",
    "pytorch-metric-learning==2.9.0",
    "faiss-cpu==1.15.1",
    "bm25s==0.3.16",
    "numba==0.68.1",
    "tantivy==0.27.0",
    "scipy==1.17.1",
    "sentence-transformers==6.2.0",
    "diffsort==0.2.0",
]

# name: (what it is, bench target, [(peer's name, file, function)], what is asked of the ratio)
JOBS = json.loads((HERE / "jobs.json").read_text())


def environment():
    """The Python of an environment that has the peers."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "foils-peers" / "kernels"
    python = cache / "bin" / "python"
    if not python.exists():
        venv.create(cache, with_pip=True)
    have = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout.lower().split()
    if any(package.lower() not in have for package in PACKAGES):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def benches(targets):
    """Builds the benchmarks; where each one's program is."""
    command = ["cargo", "bench", "--workspace", "--no-run", "--message-format=json"]
    for target in sorted(targets):
        command += ["--bench", target]
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    built = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {b["target"]["name"]: b["executable"] for b in built if b.get("executable")}


def run(command):
    """The JSON line that a measuring process printed."""
    env = {**os.environ, "RAYON_NUM_THREADS": THREADS, "OMP_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS, "NUMBA_NUM_THREADS": THREADS}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, cwd=HERE)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"ms": [], "extra_mb": None, "note": f"failed with exit code {done.returncode}"}
    return json.loads(lines[-1])


def merged(runs):
    """Median over all runs' repetitions; the largest extra memory."""
    times = [t for r in runs for t in r["ms"]]
    memory = [r["extra_mb"] for r in runs if r.get("extra_mb") is not None]
    notes = sorted({r["note"] for r in runs if r.get("note")})
    return {
        "ms": round(statistics.median(times), 3) if times else None,
        "least_ms": round(min(times), 3) if times else None,
        "runs": len(times),
        "extra_mb": max(memory) if memory else None,
        "note": "; ".join(notes),
    }


def machine():
    """The processor, in words."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), platform.processor())
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"]
    return f"{model}, {os.cpu_count()} cores; {' '.join(f for f in wanted if f in flags)}"


def tables(results):
    """The README's tables: one for each machine, since figures of two are not to be compared."""
    machines = list(dict.fromkeys(job["machine"] for job in results["jobs"].values()))
    return "\n\n".join(f"Measured on: {m}, {results['threads']} threads.\n\n{table(results, m)}" for m in machines)


def table(results, machine):
    """What was measured on one machine."""
    lines = ["| job | ours | extra memory | peer | its time | its extra memory | ratio of times | asked |", "|---|---|---|---|---|---|---|---|"]
    ms = lambda m: "failed" if m["ms"] is None else f"{m['ms']:.0f} ms" if m["ms"] >= 100 else f"{m['ms']:.3g} ms"
    mb = lambda m: "–" if m["extra_mb"] is None else f"{m['extra_mb']:.0f} MB"
    for name, job in JOBS.items():
        if results["jobs"].get(name, {}).get("machine") != machine:
            continue
        ours = results["jobs"][name]["ours"]
        for peer, theirs in results["jobs"][name]["peers"].items():
            ratio = "–" if not theirs["ms"] or not ours["ms"] else f"**{theirs['ms'] / ours['ms']:.2f}×**"
            lines.append(f"| {job['what']} (`{name}`) | {ms(ours)} | {mb(ours)} | {peer} | {ms(theirs)} | {mb(theirs)} | {ratio} | {job['asked']} |")
    return "\n".join(lines)


def write_readme(results):
    """Puts the table between its two marks."""
    begin, end = "<!-- table: written by benches/peers/run.py -->", "<!-- end of table -->"
    text = README.read_text()
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    README.write_text(f"{head}{begin}\n{tables(results)}\n{end}{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help="names of jobs; all when none is given")
    parser.add_argument("--rounds", type=int, default=2, help="how often ours and the peers' take turns")
    parser.add_argument("--list", action="store_true", help="list the jobs")
    args = parser.parse_args()
    if args.list:
        for name, job in JOBS.items():
            print(f"{name:24} {job['what']}; peers: {', '.join(p[0] for p in job['peers'])}")
        return
    unknown = [name for name in args.jobs if name not in JOBS]
    if unknown:
        sys.exit(f"no job {unknown[0]}; --list shows them")
    names = args.jobs or list(JOBS)
    python = environment()
    programs = benches({JOBS[name]["bench"] for name in names})
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"jobs": {}}
    results.update(threads=int(THREADS))
    for name in names:
        job = JOBS[name]
        if "prepare" in job:
            subprocess.run([python, job["prepare"]], cwd=HERE, check=True)
        ours, theirs = [], {peer: [] for peer, _, _ in job["peers"]}
        for _ in range(args.rounds):
            ours.append(run([programs[job["bench"]], name]))
            for peer, file, function in job["peers"]:
                theirs[peer].append(run([python, "measure.py", file, function]))
        results["jobs"][name] = {"machine": machine(), "ours": merged(ours), "peers": {peer: merged(runs) for peer, runs in theirs.items()}}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        line = ", ".join(f"{peer} {m['ms']} ms" for peer, m in results["jobs"][name]["peers"].items())
        print(f"{name}: ours {results['jobs'][name]['ours']['ms']} ms; {line}", file=sys.stderr)
    write_readme(results)
    print(tables(results))


if __name__ == "__main__":
    main()
