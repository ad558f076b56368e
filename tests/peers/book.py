#!/usr/bin/env python3
"""Does the Python code in the book run, on what the page's commands have made?

    python3 tests/peers/book.py

Runs the tests of the book with the interpreter of the environment that `saved_models.py` makes.
"""

import os
import subprocess
import sys

from saved_models import ROOT, environment

environment()
tests = ["cargo", "test", "--release", "--workspace", "--test", "book", "--", "--include-ignored"]
sys.exit(subprocess.run(tests, cwd=ROOT, env={**os.environ, "FOILS_BOOK_PYTHON": sys.executable}).returncode)
