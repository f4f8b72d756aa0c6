"""What a process holds for itself, and what becomes of it when the process is killed."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from devices.transports.adb.claim import claim
from latency.errors import DeviceError

pytestmark = pytest.mark.identity
CLAIMS = """
import sys
from pathlib import Path
from devices.transports.adb.claim import claim
sys.argv[0] = "/usr/bin/lat-profile"
claim(Path({path!r}), "phone A")
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


def test_a_device_is_claimed_by_one_process_until_that_ends(tmp_path):
    path = tmp_path / "locks" / "phone-a.lock"
    with process(CLAIMS.format(path=str(path))) as (other, said):
        assert said == "taken"
        busy = rf"^phone A is busy: lat-profile \(process {other.pid}\) measures on it; wait"
        with pytest.raises(DeviceError, match=busy):
            claim(path, "phone A")
        other.kill()
        other.wait()
        release = claim(path, "phone A")
    claim(path, "phone A")()  # by another card, say
    release()


def test_a_claim_that_is_released_is_free_for_another_process(tmp_path):
    claim(tmp_path / "a.lock", "phone A")()
    with process(CLAIMS.format(path=str(tmp_path / "a.lock"))) as (_, said):
        assert said == "taken"


def test_a_claim_writes_through_no_link(tmp_path):
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "a.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DeviceError, match=r"a\.lock: Too many levels of symbolic links"):
        claim(tmp_path / "a.lock", "phone A")
    assert (tmp_path / "precious").read_text() == "keep me"
