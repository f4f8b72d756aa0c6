"""What goes wrong with phones, and what is said of it; by the real adb client."""

import os
import socket
import threading
from pathlib import Path

import pytest
from adb_bench import (  # noqa: F401 (fixtures, by their function's name)
    CONV,
    FOLDER,
    LEAKY,
    NEEDS_ADB,
    STAND_IN,
    act,
    bench_fixture,
    left_running,
    new_phone_fixture,
    phone_fixture,
    runs_of,
    server_fixture,
    wait_until,
)

from devices.card import Adb
from devices.device import Workload
from devices.transports.adb import AdbTransport, chosen_serials
from latency.errors import ConnectionLostError, DeviceError, WorkloadError

pytestmark = [NEEDS_ADB, LEAKY]


@pytest.mark.parametrize("accident", ["cable", "server", "hang"])
def test_a_run_that_is_lost_is_an_error_and_the_next_session_works(bench, phone, accident):
    os.mkfifo(phone.root / "hang")
    device = bench.device(phone, seconds=1 if accident == "hang" else 20)
    session = device.open_session()
    handle = session.load(CONV)
    errors: list[Exception] = []

    def run() -> None:
        try:
            session.run(handle, 1, 2)
        except DeviceError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: runs_of(phone))
    assert left_running(phone)
    if accident == "cable":
        phone.cut()
    elif accident == "server":
        bench.adb("kill-server")
    thread.join(15)
    assert [type(error) for error in errors] == [ConnectionLostError]
    assert phone.serial in str(errors[0])
    session.__exit__(None, None, None)
    os.unlink(phone.root / "hang")
    with device.open_session() as again:
        handle = again.load(CONV)
        wait_until(lambda: not left_running(phone))
        assert again.run(handle, 1, 2).ms == (1.00025,)


def test_a_phone_that_comes_back_is_used_again(bench, phone):
    device = bench.device(phone)
    device.open_session().__exit__(None, None, None)
    phone.stop()
    with pytest.raises(ConnectionLostError, match=r"is offline|is not attached"):
        device.open_session()
    phone.start()
    with device.open_session() as session:
        assert session.run(session.load(CONV), 1, 2).runs == 5


@pytest.mark.parametrize(
    ("does", "error", "said"),
    [
        ("echo 'ERROR: no kernel' >&2; exit 1", WorkloadError, "last line: ERROR: no kernel"),
        ("echo half; kill -SEGV $$", WorkloadError, r"exit code 139.*last line: half"),
        ("echo half; kill -KILL $$", ConnectionLostError, r"exit code 137.* line: half"),
        ("kill -TERM $$", ConnectionLostError, r"exit code 143"),
        ("echo what; exit 0", ConnectionLostError, "no statistics.*last line: what"),
        ("echo count=1 curr=nan; echo count=2 curr=3; exit 0", ConnectionLostError, "incomplete"),
        (
            "exit 126",
            DeviceError,
            r"cannot be executed: .*for its processor.*TensorFlow Lite's page",
        ),
        ("exit 127", ConnectionLostError, "exit code 127"),
    ],
)
def test_a_binary_that_fails_is_quoted(bench, phone, does, error, said):
    act(phone, does)
    with bench.device(phone).open_session() as session:
        handle = session.load(CONV)
        with pytest.raises(error, match=said) as caught:
            session.run(handle, 1, 2)
    assert type(caught.value) is error


def test_a_model_that_is_none_is_a_workload_error(bench, phone):
    with bench.device(phone, benchmark_model=STAND_IN).open_session() as session:
        handle = session.load(Workload("broken", CONV.ops, b"no model"))
        with pytest.raises(WorkloadError, match="Benchmarking failed"):
            session.run(handle, 1, 2)
        Path(phone.mapped(FOLDER)).rename(phone.root / "away")
        with pytest.raises(WorkloadError, match="not there any more"):
            session.load(Workload("broken", CONV.ops, b"no model"))


def test_a_phone_that_does_not_know_this_computer_says_what_to_do(bench, phone):
    phone.authorised = False
    with pytest.raises(DeviceError, match="unauthorized: unlock it and accept this computer"):
        bench.transport(phone).start()


def test_a_serial_that_is_not_attached_is_named(bench, phone):
    bench.adb("connect", phone.serial)
    with pytest.raises(DeviceError, match=f"R58M is not attached; attached: {phone.serial}"):
        AdbTransport(bench.settings(), "R58M").start()


def test_a_phone_that_answers_with_noise_is_lost(bench, phone):
    transport = bench.transport(phone)
    transport.start().close()
    phone.garbage = True
    for reach in (transport.start, lambda: transport.send(b"x", ".tflite")):
        with pytest.raises(ConnectionLostError, match=phone.serial):
            reach()


def test_a_full_phone_names_the_folder_and_what_it_needs(bench, phone):
    transport = bench.transport(phone)
    phone.space = 1 << 20
    with pytest.raises(DeviceError, match=f"write 2.0 MiB into {FOLDER}: .*No space left"):
        transport.send(bytes(2 << 20), ".tflite")
    assert os.listdir(phone.mapped(FOLDER)) == []


def test_a_folder_that_may_not_be_written_is_named(bench, phone):
    (phone.root / "data/local/tmp/lat-search").write_text("a file")
    with pytest.raises(DeviceError, match=f"into {FOLDER}: .*set another `folder` in"):
        bench.device(phone).open_session().load(CONV)


def test_the_binary_must_be_there(bench, phone):
    where = "TensorFlow Lite's page"
    with pytest.raises(DeviceError, match=rf"benchmark_model in section \[adb\] .*{where}"):
        bench.transport(phone, benchmark_model=None).start()
    with pytest.raises(DeviceError, match=f"absent: No such file.*{where}"):
        bench.transport(phone, benchmark_model=bench.folder / "absent").start()


def test_without_adb_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/nonexistent/adb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeviceError, match="apt-get install adb"):
        chosen_serials(Adb(server=f"127.0.0.1:{port}", serials="all"))


def test_nasty_names_reach_no_shell(bench, phone):
    transport = bench.transport(phone)
    nasty = ".x'; touch pwned; $(touch pwned) \"`touch pwned`.tflite"
    path = transport.send(b"content", nasty)
    assert Path(phone.mapped(path)).read_bytes() == b"content"
    channel = transport.start()
    channel.ask({"do": "hello", "threads": 1, "affinity": None})
    handle = channel.ask({"do": "load", "path": path})["handle"]
    channel.ask({"do": "run", "handle": handle, "warmup": 8, "runs": 5})
    channel.close()
    assert nasty in runs_of(phone)[0]
    assert not list(phone.root.rglob("pwned"))
