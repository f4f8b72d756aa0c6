"""What asks a command to end, ends it in good order: its message, its processes, its files."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.console import run

# Nobody knows whether the tests were started by nohup.
DEFAULT_SIGNALS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
PROFILE = DEFAULT_SIGNALS + "from search.commands.profile_command import main; main()"
OF_A_TERMINAL = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"


def wait_until(holds, what):
    deadline = time.monotonic() + 60
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)
    return found


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def started(tmp_path, quick_cpu):
    """Starts a profile of this machine whose temporary folder is `tmp_path/tmp`; returns it once
    it measures, and its agent."""
    (tmp_path / "tmp").mkdir()
    profiles = []

    def start(code, **streams):
        words = ["--device", quick_cpu, "--space", "proxyless", "--out", str(tmp_path)]
        env = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "TERM": "dumb"}
        profile = subprocess.Popen([sys.executable, "-c", code, *words], env=env, **streams)
        profiles.append(profile)
        wait_until(lambda: any(p.stat().st_size > 2000 for p in tmp_path.glob("*.journal")), "it")
        (agent,) = children(profile.pid)
        return profile, agent

    yield start
    for profile in profiles:
        profile.kill()
        profile.wait()


def test_a_signal_to_end_is_dealt_with_as_ctrl_c_is(started, tmp_path):
    profile, agent = started(PROFILE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    profile.terminate()
    out, err = profile.communicate(timeout=60)
    assert (profile.returncode, out) == (1, "")
    (line,) = err.splitlines()
    assert line.endswith(
        "interrupted by SIGTERM; the same command with --resume continues from here"
    )
    assert not is_alive(agent)
    assert list((tmp_path / "tmp").iterdir()) == []
    (journal,) = tmp_path.glob("*.journal")
    assert journal.stat().st_size > 2000


def test_a_terminal_that_is_closed_leaves_no_process_and_no_file(started, tmp_path):
    ours, its = pty.openpty()
    streams = {"stdin": its, "stdout": its, "stderr": its, "start_new_session": True}
    profile, agent = started(OF_A_TERMINAL + PROFILE, **streams)
    os.close(its)
    os.close(ours)
    assert profile.wait(60) == 1
    assert not is_alive(agent)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.fixture
def own_handlers():
    """Signals end a process, also where the tests were started by nohup; put back afterwards."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    for one in before:
        signal.signal(one, signal.SIG_DFL)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("own_handlers")
def test_signals_that_come_while_a_command_ends_do_not_keep_it_from_cleaning_up(invoke):
    cleaned_up = []

    def command() -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            cleaned_up.append(True)

    assert invoke(lambda: run(command, "lat-long")) == (1, "", "lat-long: interrupted by SIGHUP")
    assert cleaned_up == [True]


def test_a_command_leaves_no_handler_behind(invoke):
    assert invoke(lambda: run(lambda: None, "lat-short"))[0] == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored():
    code = (
        "import os, signal\n"
        "from search.console import run\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "def command(): signal.raise_signal(signal.SIGHUP); print('goes on')\n"
        "run(command, 'lat-long')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "goes on\n")
