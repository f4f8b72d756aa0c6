"""Measuring: stopping, drift, journals, on the replay device and on the real CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from doubles import Memory

from devices.card import DeviceCard, Measuring, load_card
from devices.cards import known_cards
from devices.connection import connect, connect_all
from devices.device import Condition, Timing, Workload
from devices.measuring.journal import Journal
from devices.measuring.record import LEAST_TOGETHER, Record, Sample, median_polish
from devices.measuring.rounds import measure
from devices.profiling import profile
from devices.replay import ReplayDevice
from latency import LatencyTable, Measurement, OpSpec
from latency.errors import ConnectionLostError, DeviceError, UsageError

QUICK = Measuring(sessions=2, min_samples=6, max_samples=12)


def sample_of(number, workload, *ms):
    return Sample(number, 0, workload, Timing(ms, len(ms)))


class CountingDevice(ReplayDevice):
    """Also counts samples, and may break off after some."""

    def __init__(self, table, break_after=None, **options):
        super().__init__(table, **options)
        self.samples, self.break_after = 0, break_after

    def open_session(self):
        session, device = super().open_session(), self
        run = session.run

        def counted(handle, warmup, runs):
            if warmup == 1:  # else the session is finding out when the model is warm
                if device.samples == device.break_after:
                    raise KeyboardInterrupt
                device.samples += 1
            return run(handle, warmup, runs)

        session.run = counted
        return session


@pytest.fixture
def workloads(toy_table):
    return [Workload.of_op(op) for op in toy_table]


def test_medians_are_those_of_the_device(toy_table, workloads):
    measured = measure(ReplayDevice(toy_table), workloads, Measuring(max_samples=200))
    for op in toy_table:
        assert measured[op.key].median_ms == pytest.approx(toy_table[op].median_ms, rel=0.01)
        assert measured[op.key].relative_ci95 <= 0.01


def test_noisy_operators_are_measured_longer(toy_table):
    first, second, *_ = toy_table
    noisy = replace(toy_table[first], ci95_ms=0.1 * toy_table[first].median_ms)
    quiet = replace(toy_table[second], ci95_ms=0.001 * toy_table[second].median_ms)
    table = replace(toy_table, rows={first: noisy, second: quiet})
    rule = Measuring(max_samples=1000, min_samples=6)
    measured = measure(ReplayDevice(table), [Workload.of_op(op) for op in table], rule)
    assert measured[first.key].runs > 2 * measured[second.key].runs
    assert measured[first.key].relative_ci95 <= 0.01


def test_the_cap_on_samples_ends_it_and_the_interval_says_so(toy_table):
    op = next(iter(toy_table))
    wild = replace(toy_table[op], ci95_ms=0.4 * toy_table[op].median_ms)
    device = CountingDevice(replace(toy_table, rows={op: wild}))
    measured = measure(device, [Workload.of_op(op)], QUICK)
    assert device.samples == QUICK.max_samples
    assert measured[op.key].relative_ci95 > 0.01


class RestlessDevice(ReplayDevice):
    """Is faster and slower in turn."""

    calls = 0

    def draw(self, median_ms, noise, warmup, runs):
        self.calls += 1
        return super().draw(median_ms * (1 + 0.3 * np.sin(self.calls / 30)), noise, warmup, runs)


@pytest.mark.parametrize("device", [ReplayDevice, RestlessDevice])
def test_operators_and_networks_have_no_more_samples_than_their_caps(toy_table, toy_space, device):
    """Neither where one kind has a lower cap than the least number of samples, nor where rounds
    that drifted are repeated."""
    operators = [Workload.of_op(op) for op in toy_table][:9]
    choices = toy_space.random_choices(9, np.random.default_rng(0))
    networks = [Workload.of_network(toy_space.network(row)) for row in choices]
    journal, told = Memory(), []
    rule = Measuring(sessions=2, max_samples=14, max_network_samples=6)
    measure(device(toy_table), [*operators, *networks], rule, journal, told.append)
    made = Counter(sample.workload for sample in journal.samples)
    assert {made[workload.name] for workload in networks} == {6}
    assert all(12 <= made[workload.name] <= 14 for workload in operators)
    assert max(progress.total for progress in told) <= 9 * 14 + 9 * 6


def test_workloads_with_all_their_samples_are_measured_again_only_to_tell_the_drift(toy_table):
    """Of a run that is resumed without the samples of one workload."""
    workloads = [Workload.of_op(op) for op in toy_table]
    rule = Measuring(sessions=1, max_sessions=1, min_samples=6, max_samples=6)
    journal = Memory()
    measure(ReplayDevice(toy_table), workloads, rule, journal)
    journal.samples = [s for s in journal.samples if s.workload != workloads[0].name]
    before = len(journal.samples)
    measure(ReplayDevice(toy_table), workloads, rule, journal)
    more = Counter(sample.workload for sample in journal.samples[before:])
    assert more[workloads[0].name] == 6
    assert sum(more.values()) == 6 * LEAST_TOGETHER


def test_the_cap_on_time_leaves_every_workload_the_least_number_of_samples(toy_table, workloads):
    wild = {op: replace(m, ci95_ms=0.4 * m.median_ms) for op, m in toy_table.rows.items()}
    device = CountingDevice(replace(toy_table, rows=wild))
    ticks = iter(range(10**6))
    rule = Measuring(min_samples=6, max_samples=10**6, seconds=10)
    measure(device, workloads, rule, clock=lambda: float(next(ticks)))
    assert device.samples == 6 * len(workloads)


def test_drift_of_the_machine_is_taken_out():
    generator = np.random.default_rng(0)
    level = generator.uniform(-3, 1, 20)
    drift = np.cumsum(generator.normal(0, 0.05, 30))
    logs = level + drift[:, None] + generator.normal(0, 0.002, (30, 20))
    found = median_polish(logs)
    assert found == pytest.approx(drift - np.median(drift), abs=0.005)


def test_too_few_workloads_tell_nothing_of_drift():
    logs = np.random.default_rng(0).normal(size=(30, 4))
    assert (median_polish(logs) == 0).all()


def test_a_slow_minute_of_the_machine_does_not_spoil_operators(toy_table, workloads):
    record = Record(workloads, Measuring())
    ms = {w.name: toy_table[w.ops[0]].median_ms for w in workloads}
    for number in range(20):
        speed = 1.3 if 5 <= number < 12 else 1.0
        for workload in workloads:
            if number < 9 or workload is not workloads[0]:
                timing = Timing((speed * ms[workload.name],) * 3, 3)
                record.add(Sample(number, number // 8, workload.name, timing))
        record.end_round()
    # The first one was measured in four slow and five fast rounds, the others in all.
    for workload in workloads:
        assert record.measurement(workload).median_ms == pytest.approx(ms[workload.name])


def test_a_profile_states_its_error_on_networks_it_was_not_fitted_on(
    toy_table, toy_space, generator
):
    networks = [toy_space.network(row) for row in toy_space.random_choices(20, generator)]
    device = ReplayDevice(toy_table, factor=0.9)
    table = profile(
        [device], toy_space.operators, networks[:12], networks[12:], "toy@16", Measuring(), [], {}
    )
    assert table.validations["toy@16"].networks == 8
    assert table.validations["toy@16"].mean < 0.01
    for network in networks:
        predicted, true = table.predict(network).ms, 0.9 * toy_table.predict(network).ms
        assert predicted == pytest.approx(true, rel=0.02)


def test_an_interrupted_run_resumes_and_measures_nothing_complete_again(
    toy_table, workloads, tmp_path
):
    path = tmp_path / "t.journal"
    whole = CountingDevice(toy_table)
    measure(whole, workloads, QUICK)
    broken = CountingDevice(toy_table, break_after=whole.samples // 2)
    with (
        Journal(path, toy_table.setting, resume=False) as journal,
        pytest.raises(KeyboardInterrupt),
    ):
        measure(broken, workloads, QUICK, journal)
    kept = path.read_text().count("workload")
    assert kept == broken.samples
    resumed = CountingDevice(toy_table, seed=1)
    with Journal(path, toy_table.setting, resume=True) as journal:
        assert len(journal.samples) == kept
        measured = measure(resumed, workloads, QUICK, journal)
        for name, row in measured.rows.items():
            ran = [sample.timing.runs for sample in journal.samples if sample.workload == name]
            assert row.runs == sum(ran)
    assert path.read_text().count("workload") == kept + resumed.samples
    assert resumed.samples <= whole.samples - kept + 16  # sentinels beside the last few
    again = CountingDevice(toy_table)
    with Journal(path, toy_table.setting, resume=True) as journal:
        assert measure(again, workloads, QUICK, journal).rows.keys() == measured.rows.keys()
    assert again.samples == 0


def test_a_journal_line_cut_short_is_dropped(toy_table, tmp_path):
    path = tmp_path / "t.journal"
    with Journal(path, toy_table.setting, resume=False) as journal:
        journal.append(sample_of(0, "a", 1.0, 2.0))
        journal.append(sample_of(0, "b", 1.0, 2.0))
    path.write_text(path.read_text()[:-7])
    with Journal(path, toy_table.setting, resume=True) as journal:
        assert [sample.workload for sample in journal.samples] == ["a"]
        journal.append(sample_of(1, "c", 3.0))
    with Journal(path, toy_table.setting, resume=True) as journal:
        assert [sample.workload for sample in journal.samples] == ["a", "c"]


def test_a_journal_of_another_setting_is_refused(toy_table, tmp_path):
    path = tmp_path / "t.journal"
    with Journal(path, toy_table.setting, resume=False) as journal:
        journal.append(sample_of(0, "a", 1.0))
    with pytest.raises(DeviceError, match="another setting"):
        Journal(path, replace(toy_table.setting, threads=2), resume=True)


def test_without_resume_an_unfinished_run_is_set_aside_not_lost(toy_table, tmp_path):
    path = tmp_path / "t.journal"
    with Journal(path, toy_table.setting, resume=False) as journal:
        journal.append(sample_of(0, "a", 1.0))
    with Journal(path, toy_table.setting, resume=False) as journal:
        assert journal.samples == []
    assert '"a"' in path.with_suffix(".old").read_text()


def test_two_runs_never_write_one_journal(toy_table, tmp_path):
    path = tmp_path / "t.journal"
    with (
        Journal(path, toy_table.setting, resume=False),
        pytest.raises(DeviceError, match="another run is measuring"),
    ):
        Journal(path, toy_table.setting, resume=True)


@pytest.fixture(scope="module")
def cpu():
    return connect(load_card("cpu"))


@pytest.mark.identity
def test_the_real_cpu_takes_longer_for_more_work(cpu):
    small = OpSpec("mbconv", 14, 14, 24, 24, 3, 1, 3, "relu6")
    large = OpSpec("mbconv", 28, 28, 96, 96, 7, 1, 6, "relu6")
    measured = measure(cpu, [Workload.of_op(small), Workload.of_op(large)], QUICK)
    assert measured[large.key].median_ms > 3 * measured[small.key].median_ms
    assert measured[small.key].min_ms > 0
    assert "onnxruntime" in cpu.setting.runtime
    assert cpu.setting.threads == 1


@pytest.mark.identity
def test_an_agent_that_dies_is_an_error_that_says_why(cpu):
    workload = Workload("not a model", (OpSpec("conv", 8, 8, 3, 8, 3),), b"no onnx")
    measured = measure(cpu, [workload], QUICK)
    assert measured.rows == {}
    assert "cannot load" in measured.failures["not a model"]
    with pytest.raises(DeviceError, match="not a model could not be measured"):
        measured["not a model"]
    with cpu.open_session() as session:
        session._channel._pipe._process.kill()
        with pytest.raises(ConnectionLostError, match="the measuring process is gone"):
            session.load(Workload.of_op(OpSpec("conv", 8, 8, 3, 8, 3)))


@pytest.fixture
def interruptible():
    """What a shell starts in the background of a script ignores Ctrl-C, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_broken_off_profile_loses_nothing_complete_and_leaves_no_agent(tmp_path, quick_cpu, sign):
    words = [sys.executable, "-c", "from search.commands.profile_command import main; main()"]
    words += ["--device", quick_cpu, "--space", "mini", "--out", str(tmp_path), "--json"]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not _samples(tmp_path) > 100:
        assert time.monotonic() < deadline
        assert run.poll() is None, run.communicate()
        time.sleep(0.005)
    children = _children(run.pid)
    os.kill(run.pid, sign)
    _, said = run.communicate()
    if sign == signal.SIGINT:
        assert run.returncode == 1
        assert "--resume" in said
        assert "Traceback" not in said
    (journal,) = tmp_path.glob("*.journal")
    before = [line for line in journal.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    kept = tmp_path / "kept"
    os.link(journal, kept)  # the resumed run writes to it, and then deletes the journal's own name
    assert list(tmp_path.glob("*.csv")) == []
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["operators"] == 41
    assert not journal.exists()
    table = LatencyTable.load(answer["table"])
    after = kept.read_text().splitlines(keepends=True)
    assert after[: len(before)] == before
    ran: dict[str, int] = {}
    for sample in map(json.loads, after[1:]):
        ran[sample["workload"]] = ran.get(sample["workload"], 0) + len(sample["timing"]["ms"])
    assert {op.key: table[op].runs for op in table} == {op.key: ran[op.key] for op in table}
    for child in children:
        while _is_alive(child):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _samples(folder):
    return sum(path.read_text().count("workload") for path in folder.glob("*.journal"))


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


def test_every_shipped_card_is_valid():
    for name in known_cards():
        assert load_card(name).description


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads = 0", "threads: should be greater than"),
        ("thread = 1", r"unknown key 'thread': did you mean 'threads'\? \(known: adb, affinity, "),
        ("name = 'x'", r"unknown key 'name' \(known: adb, "),
        ("[ssh]\nhots = 'x'", r"ssh: unknown key 'hots': did you mean 'hosts'\? .*folder"),
        ("affinity = [-1]", "affinity.1: should be greater than or equal to 0"),
        ("transport = 'ssh'\n[ssh]\nuser = 'x'", "ssh: it needs a `host`, or several `hosts`"),
        ("runtime = 'tvm'", "runtime: should be 'onnxruntime'"),
        ("[measuring]\nci95 = 'x'", "measuring.ci95"),
        ("threads = ", "not TOML"),
        (
            "runtime = 'litert'\nprovider = 'cuda'",
            "precision: litert does not compute in float32 on cuda; it has cpu: float32, int8",
        ),
        (
            "precision = 'int8'",
            "precision: onnxruntime does not compute in int8 on cpu; it has cpu: float32; ",
        ),
        ("transport = 'adb'", "runtime: a phone over adb is measured by benchmark_model"),
        ("transport = 'ssh'", r"ssh: the transport ssh needs a section \[ssh\]"),
        ("transport = 'ssh'\n[ssh]\nhost = 'x'\nport = 0", "ssh.port: should be greater"),
        ("[adb]\nfolder = '/data/$(rm x)'", "adb.folder: string should match pattern"),
    ],
)
def test_a_broken_card_is_refused_by_file_and_key(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"mine\.toml: {said}"):
        load_card(str(path))


@pytest.mark.parametrize(
    ("section", "labels"),
    [
        ("host = 'a'", ["a"]),
        ("hosts = ['a', 'b']", ["a", "b"]),
        ("host = 'c'\nhosts = ['a', 'c', 'a']", ["c", "a"]),
    ],
)
def test_each_host_of_a_card_is_a_device_once(tmp_path, section, labels):
    path = tmp_path / "my boards.toml"
    path.write_text(f"transport = 'ssh'\n[ssh]\n{section}\n")
    card = load_card(str(path))
    assert [device.label for device in connect_all(card)] == labels
    assert (card.name, card.argument) == ("my boards", f"'{path}'")
    assert load_card("cpu").argument == "cpu"


@pytest.mark.identity
def test_cpus_that_a_card_names_are_of_the_setting():
    free = sorted(os.sched_getaffinity(0))
    usual = connect(load_card("cpu")).setting
    assert usual.options == "provider=cpu graph_optimization=all"
    chosen = connect(load_card("cpu").model_copy(update={"affinity": (free[0],)})).setting
    assert chosen.options == f"{usual.options} cpus={free[0]}"
    with pytest.raises(DeviceError, match="affinity: the card asks for the CPUs 9999; there are"):
        connect(DeviceCard(name="cpu", affinity=(9999,))).open_session()


def test_temperatures_are_told_in_order_of_time_up_to_the_last(toy_table, workloads):
    read = []

    class Warming(ReplayDevice):
        def open_session(self):
            session = super().open_session()
            session.condition = lambda: read.append(None) or Condition(40.0 + len(read))
            return session

    # What is wider than asked is measured on, in rounds of its own.
    noisy = workloads[0].ops[0]
    rows = {**toy_table.rows, noisy: replace(toy_table[noisy], ci95_ms=toy_table[noisy].median_ms)}
    measured = measure(Warming(replace(toy_table, rows=rows)), workloads, QUICK)
    last = 40 + len(read)
    said = f"41 to {last} °C, 41 to {last} meanwhile"
    assert measured.circumstances["temperature"] == said


def test_a_runtime_without_the_cards_provider_says_what_to_install():
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has a CUDA provider")
    card = DeviceCard(name="gpu", provider="cuda")
    with pytest.raises(DeviceError, match="pip install onnxruntime-gpu"):
        connect(card).open_session()


def test_an_unknown_card_lists_the_known():
    with pytest.raises(UsageError, match="unknown device card 'cpo': did you mean 'cpu'"):
        load_card("cpo")


def test_samples_are_summed_up_by_their_medians():
    samples = [[1.0, 1.1, 9.0]] * 5 + [[1.2, 1.2, 1.2]] * 5
    measurement = Measurement.from_samples([samples])
    assert measurement.median_ms == pytest.approx(1.15)
    assert measurement.runs == 30
    assert measurement.min_ms == 1.0
