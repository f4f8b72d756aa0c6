"""Logging in to a host over SSH, through others where need be."""

import base64
import logging
import shlex
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from devices.transports.ssh.known_hosts import check_host_key, known_keys
from devices.transports.ssh.route import Hop
from latency.errors import ConnectionLostError, DeviceError

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its threads' words are not ours

LOGIN_SECONDS = 60.0
"""A host that has not let us in by then (besides the time to connect) is taken for dead."""

_KEEPALIVE_SECONDS = 15
_UNANSWERED_MS = 45_000
_CLOSE_SECONDS = 2.0
_DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


class Connection:
    """A host that we are logged in to: its paramiko transport, and what leads to it."""

    def __init__(self) -> None:
        self._transports: list[paramiko.Transport] = []
        self._command: subprocess.Popen[bytes] | None = None
        self._too_slow = False

    @property
    def transport(self) -> paramiko.Transport:
        """The host's."""
        return self._transports[-1]

    @property
    def is_alive(self) -> bool:
        return all(transport.is_active() for transport in self._transports)

    @contextmanager
    def deadline(self, seconds: float, where: object) -> Iterator[None]:
        """What takes longer ends with the connection, and is a `ConnectionLostError`."""
        timer = Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception:
            if self._too_slow:
                said = f"{where}: no answer within {seconds:g} s: is the host overloaded?"
                raise ConnectionLostError(said) from None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End it; never raises."""
        for transport in reversed(self._transports):
            with suppress(Exception):
                transport.sock.shutdown(socket.SHUT_RDWR)  # wakes its thread
            with suppress(Exception):
                transport.close()
            if transport.is_alive():
                transport.join(_CLOSE_SECONDS)
            with suppress(Exception):
                transport.sock.close()  # one that was never started leaves it open
        if self._command is not None:
            self._command.kill()
            with suppress(subprocess.TimeoutExpired):
                self._command.wait(_CLOSE_SECONDS)

    def _give_up(self) -> None:
        self._too_slow = True
        self.close()

    def go_on_to(self, through: Sequence[Hop], hop: Hop) -> None:
        """Log in to the next host."""
        try:
            stream = self._open_stream(hop)
            transport = paramiko.Transport(stream)
            self._transports.append(transport)
            self._shake_hands(transport, hop)
            check_host_key(through, hop, transport.get_remote_server_key())
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise DeviceError(f"{hop}: no common SSH algorithm: {error}") from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise _unreachable(hop, error) from None
        _authenticate(transport, hop)

    def _open_stream(self, hop: Hop) -> "socket.socket | paramiko.Channel":
        if self._transports:
            address, unknown = (hop.host, hop.port), ("127.0.0.1", 0)
            timeout = hop.connect_seconds
            return self.transport.open_channel("direct-tcpip", address, unknown, timeout=timeout)
        if hop.command:
            return self._run_command(hop.command)
        stream = socket.create_connection((hop.host, hop.port), hop.connect_seconds)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
        return stream

    def _run_command(self, command: str) -> socket.socket:
        """Start a ProxyCommand; returns what it is spoken to through."""
        ours, its = socket.socketpair()
        try:
            self._command = subprocess.Popen(
                shlex.split(command),
                stdin=its.fileno(),
                stdout=its.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        return ours

    @staticmethod
    def _shake_hands(transport: paramiko.Transport, hop: Hop) -> None:
        transport.set_keepalive(_KEEPALIVE_SECONDS)
        transport.banner_timeout = hop.connect_seconds
        transport.auth_timeout = transport.channel_timeout = 2 * LOGIN_SECONDS  # deadlines first
        options = transport.get_security_options()
        known = {key.kind for key in known_keys(hop) if not key.revoked}
        if "ssh-rsa" in known:
            known |= {"rsa-sha2-256", "rsa-sha2-512"}
        # Known kinds of key come first, so that a host is not asked for one that nobody knows.
        options.key_types = sorted(options.key_types, key=lambda kind: kind not in known)
        transport.start_client(timeout=hop.connect_seconds + LOGIN_SECONDS)


def log_in(hops: Sequence[Hop]) -> Connection:
    """Log in to the last of the hosts, through those before it.

    Raises `ConnectionLostError` where one cannot be reached now, `DeviceError` where one is not
    who it should be, or does not let us in.
    """
    connection = Connection()
    try:
        for i, hop in enumerate(hops):
            with connection.deadline(hop.connect_seconds + LOGIN_SECONDS, hop):
                connection.go_on_to(hops[:i], hop)
    except BaseException:
        connection.close()
        raise
    return connection


def _unreachable(hop: Hop, error: Exception) -> DeviceError:
    """The error for a host that no SSH connection could be made to."""
    at = f"{hop.host}:{hop.port}"
    if isinstance(error, FileNotFoundError) and hop.command:
        return DeviceError(f"{hop}: the ProxyCommand {hop.command!r} is not installed here")
    if isinstance(error, paramiko.ChannelException):
        if error.code == 1:
            return DeviceError(
                f"{hop}: the jump host does not let us through: AllowTcpForwarding in its "
                "sshd_config forbids it"
            )
        said = f"the jump host cannot reach it: {error.text}"
    elif isinstance(error, socket.gaierror):
        said = f"no such host ({error.strerror}): check `host` on the card and the network"
    elif isinstance(error, ConnectionRefusedError):
        said = "refuses the connection: does sshd run there, and is the port right?"
    elif isinstance(error, TimeoutError):
        said = f"no answer within {hop.connect_seconds:g} s: is it on, and reachable from here?"
    elif isinstance(error, OSError):
        said = f"cannot be reached: {error.strerror or error}"
    else:
        words = " ".join(str(error).split())[:200] or "it hung up"
        said = f"does not answer as an SSH server does: {words}"
    return ConnectionLostError(f"{at}: {said}")


def _authenticate(transport: paramiko.Transport, hop: Hop) -> None:
    """Try key after key. Raises `DeviceError` where none is accepted."""
    tried: list[str] = []
    with _ssh_agent() as held:
        for name, key in _keys(hop, held, tried):
            try:
                further = transport.auth_publickey(hop.user, key)
            except paramiko.BadAuthenticationType as error:
                allowed = ", ".join(error.allowed_types)
                raise DeviceError(f"{hop}: takes no keys, only {allowed}; we have keys") from None
            except paramiko.SSHException as error:
                tried.append(f"{name} (refused)")
                if not transport.is_active():
                    raise _hung_up(hop, tried, error) from None
                continue
            except (OSError, EOFError) as error:
                raise _unreachable(hop, error) from None
            if further:
                raise DeviceError(f"{hop}: takes {name}, but asks for {', '.join(further)} as well")
            return
    let_in = shlex.join(["ssh-copy-id", "-p", str(hop.port), f"{hop.user}@{hop.host}"])
    raise DeviceError(
        f"{hop}: no key was accepted for the user {hop.user!r}; tried: "
        f"{', '.join(tried) or 'none, there are none'}. Check `user` and `key` on the card, or "
        f"let a key in: {let_in}"
    )


def _hung_up(hop: Hop, tried: list[str], error: Exception) -> DeviceError:
    if len(tried) < 2:
        return ConnectionLostError(f"{hop}: hung up while we logged in: {error}")
    return DeviceError(
        f"{hop}: hung up after {len(tried)} keys for the user {hop.user!r}: {', '.join(tried)}. "
        "Name the right one: `key` on the card"
    )


@contextmanager
def _ssh_agent() -> Iterator[tuple[paramiko.AgentKey, ...]]:
    """The keys that the user's ssh-agent holds, for as long as it is connected."""
    try:
        agent = paramiko.Agent()
    except (OSError, paramiko.SSHException):  # something else listens there
        yield ()
        return
    try:
        yield agent.get_keys()
    finally:
        agent.close()


def _keys(
    hop: Hop, agent_keys: Sequence[paramiko.AgentKey], tried: list[str]
) -> Iterator[tuple[str, paramiko.PKey]]:
    """Name and key, of all that may be tried; notes those that cannot."""
    held = [(f"{key.comment or 'a key'} in the ssh-agent", key) for key in agent_keys]
    if hop.keys_only:
        named = {_public_blob(path) for path in hop.keys}
        held = [(name, key) for name, key in held if key.asbytes() in named]
    if not hop.keys:
        yield from held
    defaults = [path for name in _DEFAULT_KEYS if (path := Path(name).expanduser()).exists()]
    for path in hop.keys or defaults:
        try:
            yield str(path), paramiko.PKey.from_path(path)
        except OSError as error:
            tried.append(f"{path} ({(error.strerror or str(error)).lower()})")
        except (TypeError, paramiko.PasswordRequiredException):
            tried.append(f"{path} (encrypted: give it to the ssh-agent: ssh-add {path})")
        except (ValueError, UnsupportedAlgorithm, paramiko.SSHException, UnknownKeyType):
            tried.append(f"{path} (no private key that we can read)")
    if hop.keys:
        yield from held


def _public_blob(path: Path) -> bytes:
    """The public key beside a private one, b"" where it is not there."""
    try:
        return base64.b64decode(Path(f"{path}.pub").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return b""
