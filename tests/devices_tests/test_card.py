"""What a card may not say is refused in one line that names the file and the key."""

import pytest

from devices.card import Ssh, load_card
from devices.connection import connect_all
from devices.transports.ssh.route import route
from latency.errors import DeviceError, UsageError

PHONE = "transport = 'adb'\nruntime = 'benchmark_model'\n[adb]\n"
HOST = "transport = 'ssh'\n[ssh]\nhost = 'a'\n"
LONG = "x" * 300


@pytest.fixture
def card(tmp_path):
    """Writes a card; its path."""

    def write(text):
        (tmp_path / "mine.toml").write_text(text)
        return str(tmp_path / "mine.toml")

    return write


@pytest.mark.parametrize("key", ["pause_seconds", "sample_ms", "seconds", "drift", "cool_seconds"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_a_duration_is_a_finite_number(card, key, value):
    said = rf"mine\.toml: measuring\.{key}: should be a finite number, not {value}$"
    with pytest.raises(UsageError, match=said):
        load_card(card(f"[measuring]\n{key} = {value}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[measuring]\nsample_ms = 0",
            "measuring.sample_ms: should be greater than 0, not 0",
        ),
        (
            "[measuring]\nsample_ms = 1e300",
            "measuring.sample_ms: should be less than or equal",
        ),
        ("[measuring]\npause_seconds = 1e9", "measuring.pause_seconds: should be less than"),
        ("[measuring]\nsessions = 100000", "measuring.sessions: should be less than"),
        (
            "[measuring]\nmax_samples = 1000000000",
            "measuring.max_samples: should be less than",
        ),
        (
            "[measuring]\nmin_samples = 20\nmax_samples = 10",
            "measuring: min_samples is 20, more than max_samples, 10",
        ),
        (
            "[measuring]\nmin_samples = 20\nmax_network_samples = 10",
            "measuring: min_samples is 20, more than max_network_samples, 10",
        ),
        (
            "[measuring]\nsessions = 5\nmax_sessions = 3",
            "measuring: sessions is 5, more than max_sessions, 3",
        ),
        ("threads = 1000000000", "threads: should be less than or equal to 4096"),
        ("batch = 1000000000", "batch: should be less than or equal to 65536"),
        ("affinity = [1000000000]", "affinity.1: should be less than or equal to 65535"),
        ("measuring = 5", "measuring: should be a section of keys"),
        (f"batch = {'9' * 5000}", "not TOML: "),
        (f"x = {'[' * 5000}{']' * 5000}", "not TOML: "),
        ('"a\\nb" = 1', "unknown key 'a b': did you mean 'adb'"),
        (f"{HOST}port = 99999", "ssh.port: should be less than or equal to 65535, not 99999"),
        (f"{HOST}connect_seconds = inf", "ssh.connect_seconds: should be a finite number"),
        (f"{HOST}connect_seconds = 1e300", "ssh.connect_seconds: should be less than"),
        (f"{HOST}hosts = ['{LONG}']", "ssh.hosts.1: string should have at most 120 characters"),
        (f"[ssh]\nhost = '{LONG}'", "ssh.host: string should have at most 120 characters"),
        (f"{HOST}hosts = {['a'] * 65}", "ssh.hosts: list should have at most 64 items"),
        (f"{PHONE}serials = []", "adb.serials: list should have at least 1 item"),
        (f"{PHONE}serials = ['']", "adb.serials.1: string should have at least 1 character"),
        (f"{PHONE}serials = 'R58M'", "adb.serials: should be a valid list, not 'R58M'"),
        (f"{PHONE}serials = ['{LONG}']", "adb.serials.1: string should have at most 120"),
        (f"{PHONE}server = 'a:999999'", "adb.server: string should match pattern"),
        (f"{PHONE}cpu_mask = '{'f' * 100}'", "adb.cpu_mask: string should match pattern"),
        ("[replay]\ntable = 't'\npace = inf", "replay.pace: should be a finite number"),
        ("[replay]\ntable = 't'\ndevices = 65", "replay.devices: should be less than"),
    ],
)
def test_a_value_that_no_device_has_is_refused_by_file_and_key(card, text, said):
    with pytest.raises(UsageError, match=rf"mine\.toml: {said}") as caught:
        load_card(card(text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_one_end_of_a_range_may_be_given_alone(card):
    assert load_card(card("[measuring]\nmax_samples = 8")).measuring.max_samples == 8


def test_a_maximum_that_is_not_given_is_no_less_than_the_minimum(card):
    measuring = load_card(card("[measuring]\nmin_samples = 50\nsessions = 9")).measuring
    assert (measuring.max_samples, measuring.max_network_samples) == (100, 50)
    assert measuring.max_sessions == 9


def test_a_phone_that_is_named_twice_is_one_device(card):
    path = card(f"{PHONE}serials = ['B', 'A', 'B']")
    assert [device.label for device in connect_all(load_card(path))] == ["B", "A"]


def test_a_port_in_the_environment_that_is_none_is_named(card, monkeypatch):
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "x")
    with pytest.raises(UsageError, match="ANDROID_ADB_SERVER_PORT is not a port number"):
        connect_all(load_card(card(f"{PHONE}serials = ['A']")))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ConnectTimeout soon", "not a valid ssh configuration: could not convert"),
        ("ProxyCommand nc 'b", "not a valid ssh configuration: No closing quotation"),
    ],
)
def test_an_ssh_configuration_with_such_values_is_refused_as_well(tmp_path, line, said):
    (tmp_path / "config").write_text(f"Host a\n  {line}\n")
    with pytest.raises(DeviceError, match=said):
        route(Ssh(host="a", config=tmp_path / "config"))
