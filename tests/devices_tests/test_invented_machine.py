"""The machine that `make test` invents, to run the tests marked `identity` on it once more."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from devices.card import DeviceCard
from devices.connection import connect

pytestmark = pytest.mark.identity
FOLDER = Path(__file__).parents[1] / "invented_machine"
ASK = """
import json, os, time
from devices.card import DeviceCard
from devices.connection import connect
from latency import machine
device = connect(DeviceCard(name="cpu"))
print(json.dumps([machine.hardware(), device.setting.hardware, len(os.sched_getaffinity(0)),
                  {time.perf_counter_ns() % 1000 for _ in range(100)} == {0}]))
device.close()
"""


def test_an_invented_machine_is_what_its_processes_see():
    env = os.environ | {"PYTHONPATH": str(FOLDER)}
    said = subprocess.check_output([sys.executable, "-c", ASK], env=env, text=True)
    name = "Unheard-of 9000 (family 99 model 250), 1 CPUs"
    assert json.loads(said) == [name, name, 1, True]


@pytest.mark.skipif(str(FOLDER) not in sys.path, reason="the machine is not an invented one")
def test_these_tests_run_on_the_invented_machine():
    assert Path.home() != Path(pwd.getpwuid(os.getuid()).pw_dir)
    device = connect(DeviceCard(name="cpu"))
    assert device.setting.hardware.startswith("Unheard-of 9000")
    device.close()
