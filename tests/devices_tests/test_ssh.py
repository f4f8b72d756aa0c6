"""A host over SSH, against a real sshd on this machine."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import paramiko
import pytest
from sshd import SSHD, Sshd, descendants, is_gone, make_key, wait_until, why_not

import devices
from devices.agent_device import AgentDevice
from devices.card import Ssh
from devices.device import Workload
from devices.runtimes.onnx_runtime import OnnxRuntime
from devices.transports.local import LocalTransport
from devices.transports.ssh import SshTransport
from devices.transports.ssh.host import Host
from devices.transports.ssh.known_hosts import known_keys
from devices.transports.ssh.route import route
from latency import OpSpec
from latency.errors import ConnectionLostError, DeviceError

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

OP = OpSpec.parse("mbconv-16x16x16-24-k5-s1-e3-relu6")
PROBED = 'case "$1" in -ES) exec {python} "$@";; esac\n'


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """No key, agent or configuration of the person who runs the tests is used."""
    home = tmp_path / "own-home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr("devices.transports.ssh.host._CLOSE_SECONDS", 0.3)
    return home


@pytest.fixture
def server(tmp_path):
    started = Sshd(tmp_path / "sshd")
    yield started
    started.stop()


@pytest.fixture
def transport_to(server):
    """Makes transports to the server that end with the test."""
    made = []

    def make(**settings):
        made.append(SshTransport(server.settings(**{"python": sys.executable, **settings})))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def card(server):
    return server.card(python=sys.executable)


def answers(channel):
    """Whether an agent is there, and answers as it should."""
    return channel.ask({"do": "state"}).keys() == {"temperature_c", "frequency_mhz"}


def script(path, text):
    """A program that stands where a card's `python` should."""
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_a_device_over_ssh_measures_what_it_measures_as_this_machine(card, transport_to):
    remote = AgentDevice(card, transport_to(), OnnxRuntime(card))
    local = AgentDevice(card, LocalTransport(), OnnxRuntime(card))
    assert remote.setting == local.setting
    with remote.open_session() as there, local.open_session() as here:
        medians = []
        for session in (there, here):
            timing = session.run(session.load(Workload.of_op(OP)), 20, 101)
            assert timing.runs == len(timing.ms) == 101
            medians.append(sorted(timing.ms)[50])
        assert 1 / 3 < medians[0] / medians[1] < 3
        assert there.condition() is not None
    local.close()


def test_a_file_is_sent_once_and_whole(server, transport_to):
    path = Path(transport_to().send(b"model", ".onnx"))
    assert path.parent == server.home / ".cache/lat-search"
    assert path.read_bytes() == b"model"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    before = path.stat()
    again = transport_to()
    assert again.send(b"model", ".onnx") == str(path)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    path.write_bytes(b"mod")  # as if a transfer had broken off
    assert again.send(b"model", ".onnx") == str(path)
    assert path.read_bytes() == b"model"
    again.start().close()
    sent = sorted(file.suffix for file in path.parent.iterdir())
    assert sent == [".onnx", ".pyz"]


def test_a_folder_may_be_relative_to_home_or_absolute(server, transport_to, tmp_path):
    assert transport_to(folder="~/a/b").send(b"x", "").startswith(f"{server.home}/a/b/")
    assert transport_to(folder="a/b").send(b"x", "").startswith(f"{server.home}/a/b/")
    elsewhere = tmp_path / "elsewhere"
    assert transport_to(folder=str(elsewhere)).send(b"x", "").startswith(f"{elsewhere}/")


def test_an_unknown_host_key_is_shown_with_the_line_that_accepts_it(server, transport_to):
    server.known_hosts.unlink()
    with pytest.raises(DeviceError, match="host key is not known") as caught:
        transport_to().start()
    said = str(caught.value)
    assert f"127.0.0.1:{server.port}" in said
    assert f"ssh-ed25519 {server.fingerprint()}." in said
    assert not isinstance(caught.value, ConnectionLostError)
    assert not server.known_hosts.exists()
    command = f"ssh -o UserKnownHostsFile={server.known_hosts} -p {server.port} -l {server.user} "
    assert said.endswith(f"accept it by: {command}127.0.0.1 true")


def test_a_changed_host_key_is_an_error_of_its_own(server, transport_to, tmp_path):
    transport = transport_to()
    transport.send(b"x", "")
    other = make_key(tmp_path / "other_host_key")
    server.known_hosts.write_text("# a comment\n" + server.known_hosts.read_text())
    server.restart(host_key=other)
    with pytest.raises(DeviceError, match="ITS HOST KEY HAS CHANGED") as caught:
        transport.start()
    assert f"{server.known_hosts}:2" in str(caught.value)
    assert server.fingerprint() in str(caught.value)
    assert server.fingerprint(other) in str(caught.value)
    assert not isinstance(caught.value, ConnectionLostError)


def test_a_host_known_by_one_kind_of_key_is_asked_for_that_kind(server, transport_to, tmp_path):
    rsa = make_key(tmp_path / "rsa", "rsa")
    server.restart(f"HostKey {rsa}", "Subsystem sftp internal-sftp")
    server.know(rsa)
    assert transport_to(folder=str(tmp_path / "files")).send(b"x", "")
    server.restart()  # and one that no longer has that kind is not believed
    with pytest.raises(DeviceError, match=f"HAS CHANGED.*{re.escape(server.fingerprint(rsa))}"):
        transport_to().send(b"x", "")


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("[127.0.0.1]:{port} {key}", True),
        ("other.org,[127.0.0.*]:{port} {key} a comment", True),
        ("* {key}", True),
        ("*,![127.0.0.1]:{port} {key}", False),
        ("127.0.0.1 {key}", False),
        ("@cert-authority * {key}", False),
        ("[127.0.0.1]:{port} ssh-ed25519 broken", False),
        ("[127.0.0.1]:{port}", False),
        ("|1|x|y {key}", False),
        ("[127.0.0.1]:{port} ssh-ed25519 broken\n[127.0.0.1]:{port} {key}", True),
        ("|1| {key}\n  [127.0.0.1]:{port}\t {key}", True),
    ],
)
def test_lines_of_known_hosts_mean_what_they_mean_to_openssh(server, line, known):
    key = " ".join(Path(f"{server.host_key}.pub").read_text().split()[:2])
    server.known_hosts.write_text(line.format(port=server.port, key=key) + "\n")
    (hop,) = route(server.settings())
    assert bool(known_keys(hop)) == known


def test_any_of_several_known_keys_of_a_kind_is_accepted(server, transport_to, tmp_path):
    own = server.known_hosts.read_text()
    server.know(make_key(tmp_path / "other_host_key"))
    server.known_hosts.write_text(server.known_hosts.read_text() + own)
    assert transport_to().send(b"x", "")


def test_hashed_and_revoked_lines_are_understood(server, transport_to):
    words = ["ssh-keygen", "-H", "-f", str(server.known_hosts)]
    subprocess.run(words, check=True, capture_output=True)
    assert "127.0.0.1" not in server.known_hosts.read_text()
    assert transport_to().send(b"x", "")
    key = " ".join(Path(f"{server.host_key}.pub").read_text().split()[:2])
    with server.known_hosts.open("a") as file:
        file.write(f"@revoked * {key}\n")
    with pytest.raises(DeviceError, match="REVOKED"):
        transport_to().send(b"x", "")


def test_a_key_that_is_not_let_in_is_named_with_user_and_host(server, transport_to, tmp_path):
    wrong = make_key(tmp_path / "wrong_key")
    with pytest.raises(DeviceError, match="no key was accepted") as caught:
        transport_to(key=wrong).start()
    assert f"{server.user}@127.0.0.1:{server.port}" in str(caught.value)
    assert f"{wrong} (Authentication failed" in str(caught.value)
    assert not isinstance(caught.value, ConnectionLostError)
    with pytest.raises(DeviceError, match="user 'nobody-here'"):
        transport_to(user="nobody-here").start()
    with pytest.raises(DeviceError, match=r"absent_key .*No such file"):
        transport_to(key=tmp_path / "absent_key").start()
    with pytest.raises(DeviceError, match="tried: none"):
        transport_to(key=None).start()
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(DeviceError, match="junk"):
        transport_to(key=tmp_path / "junk").start()


def test_default_keys_are_tried_where_the_card_names_none(server, transport_to, own_home):
    shutil.copy(server.user_key, own_home / ".ssh/id_ed25519")
    assert transport_to(key=None).send(b"x", "")


@pytest.fixture
def ssh_agent(tmp_path, monkeypatch):
    """Starts an ssh-agent that holds these keys."""
    address = f"/tmp/lat-agent-{os.getpid()}"
    keeper = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)

    def hold(*keys):
        wait_until(lambda: Path(address).exists(), "the ssh-agent listens")
        monkeypatch.setenv("SSH_AUTH_SOCK", address)
        subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True)

    yield hold
    keeper.terminate()
    keeper.wait()


@pytest.fixture
def locked_key(server, tmp_path):
    """The key that the server lets in, encrypted."""
    locked = tmp_path / "locked_key"
    shutil.copy(server.user_key, locked)
    shutil.copy(f"{server.user_key}.pub", f"{locked}.pub")
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(locked)]
    subprocess.run(words, check=True, capture_output=True)
    return locked


def test_an_encrypted_key_is_used_through_the_ssh_agent(
    server, transport_to, locked_key, ssh_agent
):
    with pytest.raises(DeviceError, match=rf"{locked_key} .*encrypted"):
        transport_to(key=locked_key).start()
    ssh_agent(server.user_key)
    assert transport_to(key=locked_key).send(b"x", "")
    assert transport_to(key=None).send(b"y", "")


def test_of_many_keys_in_the_ssh_agent_only_the_named_one_is_tried(
    server, transport_to, locked_key, ssh_agent, tmp_path
):
    server.restart("MaxAuthTries 1", f"Subsystem sftp internal-sftp -d {server.home}")
    ssh_agent(make_key(tmp_path / "first_key"), make_key(tmp_path / "next_key"), server.user_key)
    with pytest.raises(ConnectionLostError, match=r"first_key in the ssh-agent .*`key` on"):
        transport_to(key=locked_key).start()
    config = tmp_path / "config"
    config.write_text("IdentitiesOnly yes\n")
    assert transport_to(key=locked_key, config=config).send(b"x", "")


def test_no_python_on_the_host_names_the_interpreter_and_what_to_install(transport_to):
    with pytest.raises(DeviceError, match=r"'/nonexistent/python3' cannot .*nonexist") as caught:
        transport_to(python="/nonexistent/python3").start()
    assert "sudo apt-get install python3" in str(caught.value)
    assert not isinstance(caught.value, ConnectionLostError)


def test_the_interpreter_may_be_in_the_home_folder_of_the_host(server, transport_to):
    folder = server.home / "my envs"
    folder.mkdir()
    script(folder / "python", f'exec {sys.executable} "$@"')
    assert answers(transport_to(python="~/my envs/python").start())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo it is Python 3.8 >&2; exit 1", "it is Python 3.8. The agent needs Python 3.9"),
        ("echo hello", "hello"),
        ("exec yes", "y y y"),
        ('echo Welcome!; exec {python} "$@"', "Welcome! folder .*prints nothing at login"),
    ],
)
def test_what_is_no_python_that_the_agent_runs_on_is_told_apart(transport_to, tmp_path, text, said):
    python = script(tmp_path / "python", text.format(python=sys.executable))
    with pytest.raises(DeviceError, match=said) as caught:
        transport_to(python=python).start()
    assert not isinstance(caught.value, ConnectionLostError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exec yes", "the measuring process is gone: Expecting value"),
        ("exec tr '\\0' x < /dev/zero", "an answer of more than 4194304 bytes"),
        ("read line; echo '{{\"id\": 7}}'; read line", "does not answer as the agent does"),
        ("read line; exit 3", "exit code 3"),
        ("read line; echo out of memory >&2; exit 1", "out of memory"),
        ("yes | head -c 3000000 >&2; echo broke >&2; exit 1", "broke"),
    ],
)
def test_an_agent_that_talks_nonsense_is_the_end_of_it(server, transport_to, tmp_path, text, said):
    python = script(tmp_path / "python", (PROBED + text).format(python=sys.executable))
    channel = transport_to(python=python).start()
    with pytest.raises(ConnectionLostError, match=said):
        answers(channel)
    channel.close()


def test_an_agent_that_is_killed_is_lost_and_another_one_starts(server, transport_to):
    transport = transport_to()
    channel = transport.start()
    assert answers(channel)
    (pid,) = server.agents()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ConnectionLostError, match="killed there"):
        answers(channel)
    channel.close()
    channel = transport.start()
    assert answers(channel)
    channel.close()
    assert server.agents() == []


def test_a_session_that_is_killed_is_lost_and_a_new_one_made(server, transport_to):
    transport = transport_to()
    channel = transport.start()
    assert answers(channel)
    (pid,) = server.agents()
    server.kill_sessions()
    with pytest.raises(ConnectionLostError, match="the connection was lost"):
        answers(channel)
    channel.close()
    wait_until(lambda: is_gone(pid), "the agent has ended by itself")
    assert answers(transport.start())


def test_a_connection_that_is_cut_while_it_is_written_to_is_lost(server, transport_to, monkeypatch):
    channel = transport_to().start()
    assert answers(channel)
    server.kill_sessions()

    def cut(*_):
        raise EOFError

    monkeypatch.setattr(paramiko.Channel, "sendall", cut)
    with pytest.raises(ConnectionLostError, match="the connection was lost"):
        answers(channel)


def test_a_server_that_is_down_is_lost_until_it_is_up_again(server, transport_to):
    transport = transport_to()
    channel = transport.start()
    server.stop()
    with pytest.raises(ConnectionLostError):
        answers(channel)
    with pytest.raises(ConnectionLostError, match=f"127.0.0.1:{server.port} .*refused.*SSH server"):
        transport.send(b"x", "")
    with pytest.raises(ConnectionLostError, match="refused"):
        transport.start()
    server.start()
    assert transport.send(b"x", "")
    assert answers(transport.start())


def test_a_connection_that_breaks_while_a_file_is_sent_leaves_no_part_taken_for_whole(
    server, transport_to, monkeypatch
):
    transport = transport_to()
    transport.send(b"x", "")
    write = paramiko.SFTPFile.write

    def break_off(file, data):
        server.kill_sessions()
        write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(paramiko.SFTPFile, "write", break_off)
        with pytest.raises(ConnectionLostError, match="lost while sending a file"):
            transport.send(b"y" * 1000, ".onnx")
    path = Path(transport.send(b"y" * 1000, ".onnx"))
    assert path.read_bytes() == b"y" * 1000


def test_a_host_that_falls_silent_is_not_waited_for_for_ever(server, transport_to, monkeypatch):
    monkeypatch.setattr("devices.transports.channel.ANSWER_SECONDS", 0.3)
    channel = transport_to().start()
    hello_pid = wait_until(server.agents, "the agent runs")[0]
    os.kill(hello_pid, signal.SIGSTOP)
    with pytest.raises(ConnectionLostError, match=r"no answer within 0\.3 s"):
        answers(channel)
    os.kill(hello_pid, signal.SIGKILL)
    channel.close()


def test_a_dead_host_is_given_up_while_a_process_is_started_there(
    server, transport_to, monkeypatch
):
    transport = transport_to()
    transport.send(b"x", "")
    frozen = server.descendants()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr("devices.transports.ssh.host._STALL_SECONDS", 0.3)
    transport._host._sftp.get_channel().settimeout(0.3)
    with pytest.raises(ConnectionLostError, match="lost while starting the agent"):
        transport.start()
    channel = transport.start()  # over a new connection
    assert answers(channel)
    channel.close()


def test_a_request_that_a_frozen_host_never_answers_is_given_up(server, monkeypatch):
    host = Host(server.settings(python=sys.executable))
    for pid in server.descendants():
        os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr("devices.transports.ssh.host._OPEN_SECONDS", 0.3)
    with pytest.raises(ConnectionLostError, match=r"no answer within 0\.3 s"):
        host.run("-c", "pass")
    assert not host.is_alive


def test_agents_end_when_the_transport_closes_and_when_the_host_process_dies(
    server, transport_to, own_home
):
    transport = transport_to()
    answers(transport.start())
    (pid,) = server.agents()
    transport.close()
    wait_until(lambda: is_gone(pid), "the agent has ended")
    code = (
        "import sys\nfrom devices.card import Ssh\n"
        "from devices.transports.ssh import SshTransport\n"
        "transport = SshTransport(Ssh.model_validate_json(sys.argv[1]))\n"
        "channel = transport.start()\n"
        "print('started', flush=True); sys.stdin.read()"
    )
    settings = server.settings(python=sys.executable).model_dump_json()
    words = [sys.executable, "-c", code, settings]
    root = Path(devices.__file__).parents[1]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=root, **pipes) as host:
        assert host.stdout.readline() == b"started\n"
        (pid,) = wait_until(server.agents, "the agent runs")
        host.kill()
    wait_until(lambda: is_gone(pid), "the agent has ended")


def test_a_jump_host_is_gone_through_and_its_key_is_checked(server, transport_to, tmp_path):
    through = f"{server.user}@127.0.0.1:{server.port}"
    for jump in (through, f"{through}, {through}"):
        transport = transport_to(jump=jump)
        channel = transport.start()
        assert answers(channel)
        channel.close()
        transport.close()
    other = Sshd(tmp_path / "other")
    try:
        with pytest.raises(DeviceError, match=f"127.0.0.1:{other.port}: its host key is not known"):
            transport_to(jump=f"127.0.0.1:{other.port}").start()
    finally:
        other.stop()


def test_a_jump_host_that_lets_nobody_through_or_nowhere_says_so(server, transport_to):
    through = f"127.0.0.1:{server.port}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        ConnectionLostError, match=f"127.0.0.1:{port} cannot be reached: .*Connect failed"
    ):
        transport_to(jump=through, port=port).start()
    server.restart("AllowTcpForwarding no")
    with pytest.raises(ConnectionLostError, match="prohibited"):
        transport_to(jump=through).start()
    with pytest.raises(DeviceError, match="is not a jump host"):
        transport_to(jump="a:b:c:d").start()


def test_the_ssh_configuration_is_honoured_and_the_card_wins(server, tmp_path):
    included = tmp_path / "included"
    included.write_text(f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n")
    config = tmp_path / "config"
    config.write_text(
        f"Include {included}\n"
        f"User {server.user}\n"
        f"Host board\n  IdentityFile {server.user_key}\n"
        f'  UserKnownHostsFile "{server.known_hosts}"\n  ConnectTimeout 7\n'
        "Host far\n  HostName 192.0.2.1\n  ProxyJump one,two@two:99\n  HostKeyAlias Farthest\n"
        "Host one\n  Port 11\n"
        "Host round\n  ProxyJump round\n"
    )
    settings = Ssh(host="board", config=config, python=sys.executable)
    transport = SshTransport(settings)
    assert answers(transport.start())
    transport.close()

    (hop,) = route(settings)
    assert hop.connect_seconds == 7
    changed = {"user": "me", "port": 5, "key": Path("k"), "connect_seconds": 3.0}
    (hop,) = route(Ssh(host="board", config=config, known_hosts=Path("mine"), **changed))
    assert (hop.user, hop.port, hop.keys, hop.connect_seconds) == ("me", 5, (Path("k"),), 3)
    assert hop.known_hosts[0] == Path("mine")

    hops = route(Ssh(host="far", config=config))
    assert [str(hop).partition("@")[2] for hop in hops] == ["one:11", "two:99", "192.0.2.1:22"]
    assert hops[1].user == "two"
    assert hops[2].known_as == "farthest"
    with pytest.raises(DeviceError, match="is there a loop"):
        route(Ssh(host="round", config=config))
    config.write_text("Nonsense\n")
    with pytest.raises(DeviceError, match=f"{config}.*Unparsable"):
        route(settings)


def test_a_proxy_command_is_gone_through(server, transport_to, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"ProxyCommand {SSHD} -i -f {server.folder}/sshd_config\n")
    server.stop()  # each command is a server of its own
    transport = transport_to(config=config)
    channel = transport.start()
    assert answers(channel)
    command = descendants(os.getpid())[0]
    os.kill(command, signal.SIGKILL)
    with pytest.raises(ConnectionLostError, match="the connection was lost"):
        answers(channel)
    assert answers(transport.start())  # through another one
    transport.close()
    config.write_text("ProxyCommand not-installed-here %h %p\n")
    with pytest.raises(DeviceError, match="No such file or directory: 'not-installed-here'"):
        transport_to(config=config).start()


def test_names_are_never_taken_for_commands(server, transport_to, tmp_path):
    bait = tmp_path / "bait"
    for name in (f"a b'c\"d $(touch {bait.name}) `touch {bait.name}` ;touch {bait.name}", "-rf *"):
        python = tmp_path / name / "python"
        python.parent.mkdir()
        python.symlink_to(sys.executable)
        wrapper = script(python.parent / "run", f'cd {tmp_path}; exec {sys.executable} "$@"')
        transport = transport_to(folder=name, python=wrapper)
        assert answers(transport.start())
        assert transport.send(b"x", ".onnx").startswith(f"{server.home}/{name}/")
    assert not list(tmp_path.rglob(bait.name))


def test_what_the_host_does_not_let_us_write_is_named(server, transport_to):
    (server.home / "file").write_text("")
    with pytest.raises(DeviceError, match=f"Not a directory: '{server.home}/file/models'"):
        transport_to(folder="file/models").send(b"x", "")
    with pytest.raises(DeviceError, match=f"exists: '{server.home}/file'"):
        transport_to(folder="file").send(b"x", "")


def test_a_full_disk_is_told_and_what_was_written_removed(server, transport_to):
    server.restart(most_bytes=65536)
    transport = transport_to(folder="disk")
    with pytest.raises(DeviceError, match=f"cannot write {server.home}/disk/.*is the disk full"):
        transport.send(bytes(1_000_000), ".onnx")
    assert not list((server.home / "disk").iterdir())
    assert transport.send(bytes(1000), ".onnx")


def test_a_server_without_sftp_says_so(server, transport_to):
    server.restart("X11Forwarding no")
    with pytest.raises(DeviceError, match="Subsystem sftp"):
        transport_to().start()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n" * 100, b"SSH-2.0-x\r\n" + b"\xff" * 5000, None],
)
def test_what_is_no_ssh_server_is_told_apart_and_nothing_else_printed(answer, capfd):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = threading.Event()

        def serve():
            stream, _ = listener.accept()
            with stream:
                if answer is None:
                    done.wait()  # silence
                else:
                    stream.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConnectionLostError, match=f"127.0.0.1:{port} cannot be reached: "):
            SshTransport(Ssh(host="127.0.0.1", port=port, connect_seconds=0.5)).start()
        done.set()
        thread.join()
    assert capfd.readouterr() == ("", "")


def test_a_name_that_nobody_has_says_what_to_check():
    with pytest.raises(ConnectionLostError, match=r"no-such-host.invalid:22 cannot.*card"):
        SshTransport(Ssh(host="no-such-host.invalid")).start()


def test_several_transports_work_side_by_side(transport_to):
    transports = [transport_to() for _ in range(4)]
    said = []

    def work(transport):
        channel = transport.start()
        said.extend(answers(channel) for _ in range(20))
        channel.close()

    threads = [threading.Thread(target=work, args=(transport,)) for transport in transports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [True] * 80
