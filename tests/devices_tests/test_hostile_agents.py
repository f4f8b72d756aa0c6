"""Agents that answer nonsense: it is said in one line, and costs the one workload it was for."""

import json

import pytest

from devices.agent_device import AgentDevice
from devices.card import DeviceCard, Measuring
from devices.device import Condition, Workload
from devices.measuring.rounds import measure
from devices.runtimes.onnx_runtime import OnnxRuntime
from devices.transports.channel import AgentChannel
from devices.transports.local import LocalTransport
from latency import OpSpec
from latency.errors import ConnectionLostError, DeviceError

pytestmark = pytest.mark.identity
QUICK = Measuring(sessions=1, max_sessions=1, min_samples=6, max_samples=6)
HELLO = {"runtime": "r 1", "facts": {"cpus": 4, "machine": "m"}, "traces": True}
FIRST, SECOND = (Workload.of_op(OpSpec("conv", 8, 8, 3, 8 * c, 3)) for c in (1, 2))
DEEP = "[" * 900 + "]" * 900


class Agent:
    """An agent, the pipe to it and the transport. It answers as it should, but for the answers in
    `nonsense`, JSON objects or bytes, by the verb; those about a model are about the first one."""

    label = "there"

    def __init__(self, **nonsense):
        self.nonsense, self.answer, self.paths = nonsense, b"", []

    def start(self):
        return AgentChannel(self, self.label)

    def send(self, content, suffix):
        self.paths.append(f"/{len(self.paths)}{suffix}")
        return self.paths[-1]

    def write(self, data):
        request = json.loads(data)
        verb, path = request["do"], request.get("path")
        usual = {
            "hello": HELLO,
            "load": {"handle": self.paths.index(path) if path else 0},
            "run": {"ns": [2e6] * request.get("runs", 0)},
            "trace": {"ns": {"0.conv": 1e6}},
            "state": {"temperature_c": 40.0, "frequency_mhz": 2000.0},
        }[verb]
        is_meant = request.get("handle", 0) == 0 and path in (None, "/0.onnx")
        said = self.nonsense.get(verb, usual) if is_meant else usual
        if isinstance(said, dict):
            said = json.dumps({**said, "id": request["id"]}).encode()
        self.answer = said.replace(b"ID", str(request["id"]).encode()) + b"\n"

    def read(self, most, seconds):
        part, self.answer = self.answer[:most], self.answer[most:]
        return part

    def exit_reason(self):
        return ""

    def close(self):
        pass


def device(**nonsense):
    card = DeviceCard(name="x")
    return AgentDevice(card, Agent(**nonsense), OnnxRuntime(card))


def is_one_clear_line(said):
    return said.isprintable() and len(said) < 700


HUGE = 10**400
INVALID = "the device's answer is not valid: "
TIMES = [
    ({"ns": [1e-9]}, "ns.0: Input should be greater than or equal to 1: 1e-09"),
    ({"ns": [0]}, f"{INVALID}ns.0: "),
    ({"ns": [-5.0]}, f"{INVALID}ns.0: "),
    ({"ns": [HUGE]}, f"{INVALID}ns.0: "),
    ({"ns": [1e300]}, f"{INVALID}ns.0: "),
    ({"ns": [float("nan")]}, f"{INVALID}ns.0: Input should be a finite number"),
    ({"ns": [True]}, f"{INVALID}ns.0: "),
    ({"ns": ["\x1b[2J\n"]}, f"{INVALID}ns.0: "),
    ({"ns": []}, f"{INVALID}ns: "),
    ({"ns": {"a": 1}}, f"{INVALID}ns: "),
    ({"ns": [2e6], "runs": 0}, f"{INVALID}runs: "),
    ({"ns": [2e6], "runs": -3}, f"{INVALID}runs: "),
    ({"ns": [2e6], "runs": HUGE}, f"{INVALID}runs: "),
    ({"ns": [2e6], "memory_bytes": -1}, f"{INVALID}memory_bytes: "),
    ({"ns": [2e6], "memory_bytes": HUGE}, f"{INVALID}memory_bytes: "),
    ({"error": "\x1b[2J\r\nno\tmodel \ud800"}, "cannot run the model on there: [2J no model"),
    (b'{"id": ID, "ns": ' + DEEP.encode() + b"}", f"{INVALID}ns.0: "),
    (b'{"id": ID, "error": ' + DEEP.encode() + b"}", "cannot run the model on there: [[["),
    (b"[" * 500_000, "the measuring process is gone: "),
    (b'{"id": ID, "ns": [' + b"9" * 5000 + b"]}", "the measuring process is gone: "),
    (b"\xff\xfe\xfa", "the measuring process is gone: "),
    (b'{"id": 7}', "it does not answer as the agent does"),
]


@pytest.mark.parametrize(("answer", "said"), TIMES, ids=range(len(TIMES)))
def test_a_nonsense_answer_fails_one_workload_and_the_others_are_measured(answer, said):
    measured = measure(device(run=answer), [FIRST, SECOND], QUICK, sleep=lambda _: None)
    assert measured[SECOND.name].median_ms == 2.0
    assert said in measured.failures[FIRST.name]
    assert is_one_clear_line(measured.failures[FIRST.name])


@pytest.mark.parametrize("handle", ["x", None, 1e300, [[]]])
def test_a_model_without_a_handle_fails_alone(handle):
    measured = measure(device(load={"handle": handle}), [FIRST, SECOND], QUICK)
    assert measured[SECOND.name].median_ms == 2.0
    assert f"{INVALID}handle: " in measured.failures[FIRST.name]


@pytest.mark.parametrize("value", [HUGE, -HUGE, float("nan"), "hot", [1], -274.0, 1e9])
def test_a_sensor_that_talks_nonsense_cannot_be_read(value):
    broken = device(state={"temperature_c": value, "frequency_mhz": value})
    with broken.open_session() as session:
        assert session.condition() == Condition(None, None)
    assert measure(broken, [FIRST], QUICK)[FIRST.name].temperature_c is None


@pytest.mark.parametrize(
    "nodes",
    [None, [], {}, {"0.conv": HUGE}, {"0.conv": -1}, {"9" * 5000 + ".conv": 5e6}],
)
def test_a_nonsense_trace_is_refused(nodes):
    with device(trace={"ns": nodes}).open_session() as session:
        with pytest.raises(DeviceError) as caught:
            session.trace(FIRST, 1, 2)
        assert is_one_clear_line(str(caught.value))
        assert session.trace(SECOND, 1, 2) == {"0.conv": 1.0}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"runtime": ""}, "runtime: "),
        ({"runtime": 7}, "runtime: Input should be a valid string: 7"),
        ({"facts": []}, "facts: "),
        ({"facts": {"cpus": HUGE}}, "facts.cpus: "),
        ({"facts": {"cpus": 0}}, "facts.cpus: .*: 0"),
    ],
)
def test_a_device_that_does_not_say_what_it_is_is_refused(said, error):
    with pytest.raises(DeviceError, match=error) as caught:
        _ = device(hello={**HELLO, **said}).setting
    assert is_one_clear_line(str(caught.value))


def test_what_a_device_says_of_itself_is_fit_for_a_table():
    facts = {"cpus": 4, "cpu_info": "model name : Fast\x1b[2J CPU", "system": "\x07a\nb\x00"}
    setting = device(hello={**HELLO, "facts": facts}).setting
    assert setting.hardware == "Fast [2J CPU, 4 CPUs"
    assert setting.system == "a b"


def test_an_agent_that_dies_with_words_in_no_encoding_is_lost_in_one_line(monkeypatch):
    broken = rb"import os; os.write(2, b'out of \xff\x1b memory\n'); os._exit(1)"
    monkeypatch.setattr("devices.transports.local.agent_archive", lambda: broken)
    transport = LocalTransport()
    channel = transport.start()
    with pytest.raises(ConnectionLostError, match=r"out of .* memory") as caught:
        channel.ask({"do": "hello"})
    assert is_one_clear_line(str(caught.value))
    channel.close()
    transport.close()
