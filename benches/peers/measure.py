"""Times one peer's function: `python measure.py FILE FUNCTION` prints one line of JSON as the Rust benchmarks do."""

import importlib
import json
import os
import sys
import time


def status(key):
    """A line of /proc/self/status in MB."""
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
    except OSError:
        return None


def main():
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    module = importlib.import_module(sys.argv[1])
    data, step = getattr(module, sys.argv[2])()
    note = getattr(step, "note", "")
    warm = getattr(step, "warm", 1)  # compiled functions compile in the first calls
    for _ in range(warm - 1):
        step(data)
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass
    before = status("VmRSS")
    start = time.perf_counter()
    step(data)
    first = time.perf_counter() - start
    extra = None if before is None else max(0.0, status("VmHWM") - before)
    repetitions = max(1, min(21, int(4.0 / max(first, 1e-6))))
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        result = step(data)
        times.append(round((time.perf_counter() - start) * 1e3, 4))
        del result
    print(json.dumps({"job": sys.argv[2], "ms": times, "extra_mb": extra, "threads": threads, "note": note}))


if __name__ == "__main__":
    main()
