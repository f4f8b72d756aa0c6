"""Shared by the tests of phones: a private adb server, and daemons that stand in for phones."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from adbd import AdbDaemon
from phone_sandbox import make_phone

from devices.agent_device import AgentDevice
from devices.card import Adb, DeviceCard
from devices.device import Workload
from devices.runtimes.lite_rt import LiteRt
from devices.transports.adb import AdbTransport
from latency.operators.spec import OpSpec

NEEDS_ADB = pytest.mark.skipif(
    shutil.which("adb") is None, reason="adb is not installed (apt-get install adb)"
)
LEAKY = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""adbutils leaves a socket unclosed when it finds no server and starts one."""
CONV = Workload.of_op(OpSpec("conv", 16, 16, 3, 8, 3, 2, activation="relu6"))
FOLDER = "/data/local/tmp/lat-search"
STAND_IN = Path(__file__).with_name("benchmark_model_stand_in.py")

SCRIPTED = """#!/bin/sh
echo "$@" >> "$PHONE/runs"
[ -p "$PHONE/hang" ] && read x < "$PHONE/hang"
[ -f "$PHONE/act" ] && . "$PHONE/act"
for flag; do case "$flag" in
--warmup_runs=*) warm=${flag#*=};;
--num_runs=*) runs=${flag#*=};;
esac; done
last=2000
[ "$warm" -ge 8 ] && last=1010
echo "INFO: count=$warm first=3000 curr=$last min=$last max=3000 avg=2500 std=9 median=2500"
echo "INFO: count=$runs first=990 curr=1001 min=990 max=1500 avg=1000.25 std=9 median=1000"
echo "INFO: Memory footprint delta from the start of the tool (MB): init=1 overall=2.5"
"""
"""A `benchmark_model` that is warm after eight runs; does what the phone's file `act` says."""


@dataclass
class Bench:
    """A private adb server, and what tests do with it."""

    port: int
    folder: Path

    def adb(self, *arguments: str) -> str:
        command = ["adb", "-P", str(self.port), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout

    def settings(self, **options: object) -> Adb:
        options = {"benchmark_model": self.tool("tool", SCRIPTED.encode())} | options
        return Adb.model_validate({"server": f"127.0.0.1:{self.port}", **options})

    def transport(self, phone: AdbDaemon, seconds: float = 20, **options: object) -> AdbTransport:
        return AdbTransport(self.settings(**options), phone.serial, seconds)

    def device(self, phone: AdbDaemon, seconds: float = 20, **options: object) -> AgentDevice:
        card = DeviceCard(
            name="pixel",
            transport="adb",
            runtime="benchmark_model",
            adb=self.settings(**options),
        )
        transport = self.transport(phone, seconds, **options)
        return AgentDevice(card, transport, LiteRt(card))

    def tool(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


@pytest.fixture(name="server", scope="module")
def server_fixture(tmp_path_factory) -> Iterator[int]:
    """Port of an adb server of our own, which the first test starts; with keys of its own."""
    home = tmp_path_factory.mktemp("home")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("TMPDIR", str(home))
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("ADB_LOCAL_TRANSPORT_MAX_PORT", "5554")  # looks for no emulators
        patch.delenv("ADB_SERVER_SOCKET", raising=False)
        patch.delenv("ANDROID_SERIAL", raising=False)
        yield port
        subprocess.run(["adb", "-P", str(port), "kill-server"], capture_output=True, timeout=30)


@pytest.fixture(name="bench")
def bench_fixture(server, tmp_path) -> Bench:
    return Bench(server, tmp_path)


@pytest.fixture(name="new_phone")
def new_phone_fixture(bench) -> Iterator[Callable[..., AdbDaemon]]:
    """Makes phones, which go at the end."""
    phones: list[AdbDaemon] = []

    def make(**options: int) -> AdbDaemon:
        phone = AdbDaemon(make_phone(bench.folder / f"phone{len(phones)}"), **options)
        phone.start()
        phones.append(phone)
        return phone

    yield make
    for phone in phones:
        phone.stop()
        bench.adb("disconnect", phone.serial)


@pytest.fixture(name="phone")
def phone_fixture(new_phone) -> AdbDaemon:
    return new_phone()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def runs_of(phone: AdbDaemon) -> list[str]:
    """The command lines with which the scripted tool was run."""
    path = phone.root / "runs"
    return path.read_text().splitlines() if path.exists() else []


def act(phone: AdbDaemon, text: str) -> None:
    (phone.root / "act").write_text(text)


def left_running(phone: AdbDaemon) -> list[str]:
    """Command lines of benchmark processes of this phone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{phone.root}{FOLDER}" in line and "--graph" in line:
            found.append(line)
    return found
