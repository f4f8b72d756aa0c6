"""Commands on a phone: two at a time, and what one that is ended leaves; by the real adb client."""

import json
import os
import subprocess
import sys

import pytest
from adb_bench import (  # noqa: F401 (fixtures, by their function's name)
    CONV,
    LEAKY,
    NEEDS_ADB,
    bench_fixture,
    left_running,
    new_phone_fixture,
    phone_fixture,
    runs_of,
    server_fixture,
    wait_until,
)

from devices.card import load_card
from devices.connection import connect
from latency.errors import DeviceError
from search.jobs.inspection import check_device

pytestmark = [NEEDS_ADB, LEAKY]

PROFILE = (
    "import sys; sys.argv[0] = 'lat-profile'\n"
    "from search.commands.profile_command import main; main()"
)


@pytest.fixture
def card(bench, phone, tmp_path):
    """Writes cards that name the same phone."""

    def write(name):
        settings = bench.settings(serials=(phone.serial,))
        path = tmp_path / f"{name}.toml"
        path.write_text(
            'transport = "adb"\nruntime = "benchmark_model"\n[adb]\n'
            f"server = {json.dumps(settings.server)}\nserials = [{json.dumps(phone.serial)}]\n"
            f"benchmark_model = {json.dumps(str(settings.benchmark_model))}\n"
        )
        return path

    return write


@pytest.fixture
def measuring(card, phone, tmp_path):
    """A profile of the phone, in the midst of its first run; it goes on once `hang` is gone."""
    os.mkfifo(phone.root / "hang")
    words = ["--device", card("one"), "--space", "mini", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", PROFILE, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as profile:
        wait_until(lambda: runs_of(phone))
        yield profile
        profile.kill()


def test_a_second_command_leaves_the_first_one_alone_and_says_who_measures(
    measuring, card, phone, capsys
):
    second = connect(load_card(str(card("two"))))
    assert second.setting.hardware.startswith("Google Pixel")
    busy = rf"phone {phone.serial} is busy: lat-profile \(process {measuring.pid}\) measures on it"
    with second.open_session() as session, pytest.raises(DeviceError, match=busy):
        session.load(CONV)
    found = check_device(str(card("two")))
    assert (found.card, found.is_ready) == ("two", False)
    answers, runs = found.steps[1:]
    assert answers.ok
    assert "is busy" in runs.found
    assert len(left_running(phone)) == len(runs_of(phone)) == 1
    assert measuring.poll() is None


def test_a_command_that_is_told_to_end_leaves_the_phone_as_it_was(measuring, card, phone):
    assert (phone.root / "log").read_text().startswith("svc power stayon true")
    (phone.root / "stay_on").write_text("7\n")
    measuring.terminate()
    _, err = measuring.communicate(timeout=30)
    assert measuring.returncode == 1
    (line,) = err.splitlines()
    assert line.endswith(
        "interrupted by SIGTERM; the same command with --resume continues from here"
    )
    assert (phone.root / "stay_on").read_text() == "0\n"
    wait_until(lambda: not left_running(phone))


def test_a_command_that_is_killed_lets_go_of_the_phone(measuring, card, phone):
    (phone.root / "stay_on").write_text("7\n")
    measuring.kill()
    measuring.wait()
    os.unlink(phone.root / "hang")
    with connect(load_card(str(card("two")))).open_session() as session:
        handle = session.load(CONV)
        wait_until(lambda: not left_running(phone))
        assert session.run(handle, 1, 2).ms == (1.00025,)
    assert (phone.root / "stay_on").read_text() == "0\n"
