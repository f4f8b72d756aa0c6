"""The tutorials of the phone and of the board, typed as written: by the real adb client, and over
a real ssh server."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adb_bench import (  # noqa: F401 (fixtures, by their function's name)
    NEEDS_ADB,
    bench_fixture,
    new_phone_fixture,
    phone_fixture,
    server_fixture,
)
from pages import ROOT, Reader, in_no_time
from sshd import Sshd, why_not

from latency import LatencyTable

SIZED = """#!/bin/sh
for flag; do case "$flag" in
--graph=*) us=$(($(wc -c < "${flag#*=}") / 50 + 20));;
--warmup_runs=*) warm=${flag#*=};;
--num_runs=*) runs=${flag#*=};;
esac; done
for count in $warm $runs; do
echo "INFO: count=$count first=$us curr=$us min=$us max=$us avg=$us std=0 median=$us"
done
"""
"""A `benchmark_model` on which a network takes what its operators take: a time for every byte."""


@pytest.fixture
def desk(tmp_path, monkeypatch, at_once):
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@NEEDS_ADB
def test_a_phone_as_the_tutorial_says(bench, phone, desk, monkeypatch):
    monkeypatch.setenv("HOME", str(desk))
    bench.adb("connect", phone.serial)
    downloads = desk / "Downloads"
    downloads.mkdir()
    (downloads / "android_aarch64_benchmark_model").write_text(SIZED)

    def adb(words):
        assert f"{phone.serial}\tdevice" in bench.adb(*words[1:])

    def run(words):
        subprocess.run([shutil.which(words[0]), *map(_at_home, words[1:])], check=True)

    programs = {"adb": adb, "sudo": lambda words: None, "mkdir": run, "cp": run}
    Reader(programs, in_no_time).read(ROOT / "docs" / "phone.md")
    assert (desk / "runs" / "phone" / "model.tflite").read_bytes()[4:8] == b"TFL3"
    assert LatencyTable.load("phone").setting.hardware.startswith("Google Pixel")


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_board_as_the_tutorial_says(desk, monkeypatch):
    server = Sshd(desk / "sshd")
    try:
        _configure(server, desk, monkeypatch)
        board = server.home / "lat" / "bin"
        board.mkdir(parents=True)
        python = board / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        config = desk / ".ssh" / "config"

        def ours(text):  # the board's user is the one who runs the test
            return in_no_time(text).replace('user = "pi"', f'user = "{server.user}"')

        def ssh(words):
            words = [word.replace("pi@", f"{server.user}@") for word in words[1:]]
            command = ["ssh", "-F", config, "-o", "BatchMode=yes", *words]
            subprocess.run(command, check=True, capture_output=True)

        Reader({"ssh": ssh}, ours, is_measured=True).read(ROOT / "docs" / "raspberry-pi.md")
    finally:
        server.stop()
    assert LatencyTable.load("pi").setting.transport == "ssh"
    assert (desk / "runs" / "pi" / "result.json").exists()


def _configure(server: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ssh configuration of a person whose network has the board."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (home / ".ssh").mkdir()
    shutil.copy(server.known_hosts, home / ".ssh" / "known_hosts")
    lines = [
        "Host raspberrypi.local",
        "HostName 127.0.0.1",
        f"Port {server.port}",
        f"User {server.user}",
        f"IdentityFile {server.user_key}",
        f"UserKnownHostsFile {home / '.ssh' / 'known_hosts'}",
    ]
    (home / ".ssh" / "config").write_text("\n".join(lines) + "\n")


def _at_home(word: str) -> str:
    return str(Path(shlex.split(word)[0]).expanduser()) if word.startswith("~") else word
