"""`make bench` starts: what it measures takes hours, and is measured by it alone."""

import subprocess
import sys

from pages import ROOT


def test_the_benchmarks_can_be_started():
    command = [sys.executable, ROOT / "benchmarks" / "run.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
