"""What a process holds for itself, and what becomes of it when the process is killed."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from devices.transports.local import LocalTransport
from devices.transports.locks import Claim
from latency.errors import DeviceError

pytestmark = pytest.mark.identity
SENDS = """
import sys
from devices.transports.local import LocalTransport
transport = LocalTransport()
print(transport.send(b"a model", ".onnx"), flush=True)
"""
CLAIMS = """
import sys
from pathlib import Path
from devices.transports.locks import Claim
sys.argv[0] = "/usr/bin/lat-profile"
claim = Claim(Path({path!r}), "phone A")
claim.take()
print("taken", flush=True)
"""


@contextmanager
def process(code):
    """A process that has run this, and waits; and what it printed."""
    words = [sys.executable, "-c", f"{code}\nsys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as started:
        yield started, started.stdout.readline().strip()
        started.kill()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder that temporary files are in."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_models_of_a_killed_process_go_with_the_next_and_those_of_others_stay(temporary, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (temporary / "lat-search-models-link").symlink_to(precious)
    (precious / "file").touch()
    with process(SENDS) as (killed, left), process(SENDS) as (_, kept):
        killed.kill()
        killed.wait()
        folders = {path.name for path in temporary.iterdir()}
        transport = LocalTransport()
        own = transport.send(b"a model", ".onnx")
        now = {path.name for path in temporary.iterdir()}
        assert left.split("/")[-2] in folders - now
        assert {kept.split("/")[-2], own.split("/")[-2]} <= now
        transport.close()
    assert (precious / "file").exists()


def test_a_device_is_claimed_by_one_process_until_that_ends(tmp_path):
    path = tmp_path / "locks" / "phone-a.lock"
    claim = Claim(path, "phone A")
    with process(CLAIMS.format(path=str(path))) as (other, said):
        assert said == "taken"
        busy = rf"^phone A is busy: lat-profile \(process {other.pid}\) measures on it; wait"
        with pytest.raises(DeviceError, match=busy):
            claim.take()
        other.kill()
        other.wait()
        claim.take()
    Claim(path, "phone A").take()  # by another card, say


def test_a_claim_that_is_released_is_free_for_another_process(tmp_path):
    claim = Claim(tmp_path / "a.lock", "phone A")
    claim.take()
    claim.release()
    with process(CLAIMS.format(path=str(tmp_path / "a.lock"))) as (_, said):
        assert said == "taken"


def test_a_claim_writes_through_no_link(tmp_path):
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "a.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DeviceError, match=r"a\.lock: Too many levels of symbolic links"):
        Claim(tmp_path / "a.lock", "phone A").take()
    assert (tmp_path / "precious").read_text() == "keep me"
