"""`make dist`: build wheel and sdist, install them in empty environments, try every command.

    python tests/check_dist.py [DIST]

What was built stays in DIST (dist/ where not given). Each check ends the process with what was
wrong. The core is installed without extras: commands must say which extra they lack. Then the extra
`train` is all that a search takes, and other extras bring what our files import; `mobile`, of
hundreds of megabytes, is left out.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDS_TRAIN = ("lat-search", "--budget", "5ms")
CONSTRAINTS = ("-c", ROOT / "constraints.txt")
EXTRAS = {
    "ssh": "devices.transports.ssh.host",
    "pandas": "pandas",
    "report": "search.report.table.report, search.report.pictures, kaleido",
    "gpu": "torch, pynvml",
}
"""What is imported by each extra alone; with what `train` brings, where that would be large."""


def main() -> None:
    dist = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()
    call([sys.executable, "-m", "build", "--outdir", dist, ROOT], ROOT)
    version = PROJECT["version"]
    for built in (f"lat_search-{version}-py3-none-any.whl", f"lat_search-{version}.tar.gz"):
        with tempfile.TemporaryDirectory() as folder:
            core = check(dist / built, Path(folder))
            print(f"{built}: {(dist / built).stat().st_size / 1e6:.2f} MB; core {core}")
            for extra in ("ssh", "pandas", "report"):
                check_extra(extra, Path(folder))
            check_search(dist / built, Path(folder))
            check_extra("gpu", Path(folder))


def check(built: Path, folder: Path) -> str:
    """Install what was built, and run its commands from elsewhere; how large the core is."""
    venv.create(folder, with_pip=True)
    scripts = folder / "bin"
    call([scripts / "pip", "install", "--quiet", *CONSTRAINTS, built], folder)
    for script in PROJECT["scripts"]:
        assert "--version" in call([scripts / script, "--help"], "/")
        assert call([scripts / script, "--version"], "/") == f"lat-search {PROJECT['version']}\n"
    rooms = "import sys, latency, devices, search, lut_data; print('torch' in sys.modules)"
    assert call([scripts / "python", "-c", rooms], "/") == "False\n"
    shipped = sorted(path.stem for path in (ROOT / "lut_data").glob("*.csv"))
    for table in shipped:
        call([scripts / "lat-table", "show", table], "/")
    call([scripts / "lat-predict", "zoo:proxyless_mobile", "--target", shipped[0]], "/")
    lacking = run([scripts / NEEDS_TRAIN[0], *NEEDS_TRAIN[1:]], "/")
    assert (lacking.returncode, lacking.stdout) == (2, "")
    assert "pip install 'lat-search[train]'" in lacking.stderr, lacking.stderr
    return size_of(folder)


def check_search(built: Path, folder: Path) -> None:
    """Install the extra `train` besides, which is all that `lat-search` needs; nothing is measured
    here."""
    pip = [folder / "bin" / "pip", "install", "--quiet", *CONSTRAINTS]
    call([*pip, f"{built}[train]"], folder)
    table = next((ROOT / "lut_data").glob("*onnxruntime*.csv")).stem
    words = ["--target", table, "--space", "mini", "--range"]
    assert "networks, from" in call([folder / "bin" / "lat-search", *words], folder)
    call([folder / "bin" / "python", "-c", "import search.report.run.report"], folder)


def check_extra(name: str, core: Path) -> None:
    """Install an extra into an environment of its own, which sees that of the core, and import
    what it is for."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        (site_of(Path(folder)) / "core.pth").write_text(f"{site_of(core)}\n")
        words = ["install", "--quiet", *CONSTRAINTS, f"lat-search[{name}]"]
        call([python, "-m", "pip", *words], folder)
        call([python, "-c", f"import {EXTRAS[name]}"], folder)


def site_of(folder: Path) -> Path:
    """Where an environment keeps its packages."""
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages


def size_of(folder: Path) -> str:
    """What the packages in an environment take on the disk, less pip and setuptools."""
    packages = site_of(folder)
    own = ("pip", "setuptools")
    files = (f for f in packages.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    total = sum(
        f.stat().st_size for f in files if not f.relative_to(packages).parts[0].startswith(own)
    )
    return f"{total / 1e6:.0f} MB installed"


def call(command: list, folder: Path | str) -> str:
    """Run a command in a folder; its standard output. Ends the process where it fails."""
    done = run(command, folder)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def run(command: list, folder: Path | str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, where it sees nothing of this tree."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
