"""Measuring on phones, by the real adb client."""

import os
import shutil
import stat
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
    new_phone_fixture,
    phone_fixture,
    runs_of,
    server_fixture,
)
from adbd import VERSION
from doubles import trace_layers

from devices.device import Condition
from devices.transports.adb import AdbTransport, chosen_serials
from latency.errors import DeviceError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec

pytestmark = [NEEDS_ADB, LEAKY]


def test_a_model_is_run_on_the_big_cores_of_a_phone_by_the_binary_of_the_card(bench, phone):
    device = bench.device(phone, benchmark_model=STAND_IN)
    setting = device.setting
    assert setting.hardware == "Google Pixel (sailfish, msm8996), 4 CPUs"
    assert setting.system == "Android 10 (google/sailfish/sailfish:10/QP1A/1:user/release-keys)"
    assert setting.runtime.startswith("benchmark_model ")
    assert setting.build == "cores c"
    assert setting.options == "delegate=xnnpack"
    with device.open_session() as session:
        assert not session.is_resident
        handle = session.load(CONV)
        first = session.run(handle, 1, 3)
        second = session.run(handle, 0, 4)
        # tsens tells degrees, cpu1 tenths, battery thousandths; pa_therm0 is no processor
        assert session.condition() == Condition(43.1, 1950.4)
    assert (first.runs, second.runs) == (5, 4)
    assert 0 < first.ms[0] < 1000
    assert second.memory_bytes is not None
    assert second.memory_bytes > 0
    assert set((phone.root / "masks").read_text().split()) == {"c"}
    assert "--use_xnnpack=true" in next(c for c in phone.commands if "--graph" in c)


def test_a_phone_tells_what_each_layer_takes(bench, phone):
    device = bench.device(phone, benchmark_model=STAND_IN)
    block = OpSpec("mbconv", 8, 8, 8, 8, 5, 1, 3, "h_swish", 0.25)
    network = NetworkSpec.of("traced", (*CONV.ops, block, OpSpec("pool", 8, 8, 8, 8, 8)))
    layers = trace_layers(device, network, 2.0)
    assert list(layers) == [
        (i, layer.name) for i, op in enumerate(network.ops) for layer in op.layers
    ]
    assert min(layers.values()) > 0
    assert sum(layers.values()) == pytest.approx(2.0)
    assert "--enable_op_profiling=true" in next(c for c in phone.commands if "profiling" in c)


def test_a_binary_that_tells_no_layers_apart_is_told(bench, phone):
    table = (
        "[node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]\n"
        "TfLiteXNNPackDelegate 0.9 1.0 100.000% 100.000% 0.000 1 [output]:3"
    )
    act(phone, f"case \"$*\" in *profiling*) cat <<'END'\n{table}\nEND\nexit 0;; esac")
    with pytest.raises(DeviceError, match=r"reports 0 convolutions .* the model has 1; .* 2\.10"):
        trace_layers(bench.device(phone), NetworkSpec.of("one", CONV.ops))


def test_a_file_arrives_whole_and_only_once(bench, phone):
    transport = bench.transport(phone)
    content = os.urandom(30 << 20)
    path = transport.send(content, ".tflite")
    assert transport.send(content, ".tflite") == path
    assert bench.transport(phone).send(content, ".tflite") == path
    assert Path(phone.mapped(path)).read_bytes() == content
    assert len(phone.pushed) == 1
    Path(phone.mapped(path)).write_bytes(b"cut off")
    transport.send(content, ".tflite")
    assert Path(phone.mapped(path)).read_bytes() == content
    assert len(os.listdir(phone.mapped(FOLDER))) == 1


def test_the_binary_and_a_model_are_pushed_once_for_all_sessions(bench, phone):
    device = bench.device(phone)
    for _ in range(2):
        with device.open_session() as session:
            session.run(session.load(CONV), 1, 2)
    assert len(phone.pushed) == 2
    (binary,) = Path(phone.mapped(FOLDER)).glob("*.benchmark_model")
    assert stat.S_IMODE(binary.stat().st_mode) == 0o755


def test_the_warm_up_that_a_model_needs_is_found_at_its_first_run(bench, phone):
    device = bench.device(phone)
    with device.open_session() as session:
        handle = session.load(CONV)
        timing = session.run(handle, 1, 20)
        session.run(handle, 0, 20)
    with device.open_session() as session:
        session.run(session.load(CONV), 0, 20)
    assert timing.ms == (1.00025,)  # the median, and within its us the mean
    assert timing.memory_bytes == 2.5 * 2**20
    warm_ups = [int(line.split("--warmup_runs=")[1].split()[0]) for line in runs_of(phone)]
    assert warm_ups == [1, 2, 4, 8, 8, 8]


def test_a_warm_up_that_never_ends_is_bounded(bench, phone):
    statistics = "count=$n first=900 curr=$c min=700 max=900 avg=800 std=9 median=800"
    act(phone, f'c=900 n=64; echo "{statistics}"; c=800 n=20; echo "{statistics}"; exit 0')
    with bench.device(phone).open_session() as session:
        assert session.run(session.load(CONV), 1, 20).ms == (0.8,)
    assert len(runs_of(phone)) == 1


def test_a_card_chooses_the_cores(bench, phone):
    with bench.device(phone, cpu_mask="3").open_session() as session:
        assert session.greeting.cpus == [0, 1]
        assert session.condition().frequency_mhz == 1593.6
    with pytest.raises(DeviceError, match=r"its cores are 0, 1, 2, 3, and .* asks for 4, 5"):
        bench.device(phone, cpu_mask="30").open_session()


def test_a_phone_without_clocks_or_sensors_is_measured_and_says_so(bench, phone):
    shutil.rmtree(phone.root / "sys")
    (phone.root / "battery").write_text("  temperature: 305\n")
    with bench.device(phone).open_session() as session:
        assert session.greeting.build == "not pinned: no core shows its clock"
        assert session.run(session.load(CONV), 1, 2).ms == (1.00025,)
        assert session.condition() == Condition(30.5, None)


def test_the_screen_is_kept_on_during_a_session_only(bench, phone):
    (phone.root / "stay_on").write_text("3\n")
    with bench.device(phone).open_session() as session:
        session.load(CONV)
        log = (phone.root / "log").read_text().splitlines()
        assert log == ["svc power stayon true", "input keyevent KEYCODE_WAKEUP"]
        (phone.root / "stay_on").write_text("7\n")
    assert (phone.root / "stay_on").read_text() == "3\n"


def test_the_screen_is_as_it_was_after_the_run_that_follows_a_killed_one(bench, phone):
    (phone.root / "stay_on").write_text("3\n")
    bench.device(phone).open_session().load(CONV)  # and is never heard of again
    (phone.root / "stay_on").write_text("7\n")
    with bench.device(phone).open_session() as session:
        session.load(CONV)
    assert (phone.root / "stay_on").read_text() == "3\n"


def test_whoever_only_asks_what_a_phone_is_changes_nothing_on_it(bench, phone):
    assert bench.device(phone).setting.hardware.startswith("Google Pixel")
    assert not (phone.root / "log").exists()
    assert os.listdir(phone.root / "data/local/tmp") == []
    assert not [command for command in phone.commands if "pkill" in command]


def test_several_phones_are_told_apart(bench, new_phone):
    phones = [new_phone(), new_phone(version=VERSION - 1)]  # the second one checks sums
    settings = bench.settings(serials="all")
    with pytest.raises(DeviceError, match="no phone is attached, and the card asks for all"):
        chosen_serials(settings)
    with pytest.raises(DeviceError, match="no phone is attached: plug one in"):
        AdbTransport(bench.settings()).start()
    for phone in phones:
        bench.adb("connect", phone.serial)
    assert sorted(chosen_serials(settings)) == sorted(phone.serial for phone in phones)
    assert chosen_serials(bench.settings()) == (None,)
    assert chosen_serials(bench.settings(serials=("a", "b"))) == ("a", "b")
    with pytest.raises(DeviceError, match=r'2 phones are attached .* serials = \["127'):
        AdbTransport(bench.settings()).start()
    sessions = [bench.device(phone).open_session() for phone in phones]
    for session in sessions:
        session.run(session.load(CONV), 8, 10)
        session.__exit__(None, None, None)
    assert [len(runs_of(phone)) for phone in phones] == [1, 1]
    bench.adb("disconnect", phones[1].serial)
    alone = AdbTransport(bench.settings())
    assert alone.label == "phone"
    alone.start().close()
    assert alone.label == phones[0].serial
