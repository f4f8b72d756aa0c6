"""A command of this environment, run as a user runs it."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def answer(name: str, *words: str) -> dict[str, Any]:
    """Run a console script; its JSON answer, with the wall clock as `wall_s`."""
    start = time.perf_counter()
    script = Path(sys.executable).parent / name
    done = subprocess.run([script, *words, "--json"], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{name} {' '.join(words)}: {done.stderr.strip()}")
    return {**json.loads(done.stdout), "wall_s": time.perf_counter() - start}
