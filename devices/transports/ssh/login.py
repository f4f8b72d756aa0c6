"""Logging in to a host over SSH, through jump hosts if there are any."""

import logging
import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, Popen
from threading import Timer

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from devices.transports.channel import shown
from devices.transports.ssh.known_hosts import check_host_key, known_keys
from devices.transports.ssh.route import Hop
from latency.errors import ConnectionLostError, DeviceError

logging.getLogger("paramiko").addHandler(
    logging.NullHandler()
)  # its threads log to stderr otherwise

LOGIN_SECONDS = 60.0
"""Limit for a login, besides the time to connect."""

_KEEPALIVE_SECONDS = 15
_UNANSWERED_MS = 45_000
_DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


class Connection:
    """A login to the last of `hops`, each through the one before it.

    Raises `ConnectionLostError` if a host cannot be reached now, `DeviceError` if its key is not
    the known one or it refuses the login.
    """

    def __init__(self, hops: Sequence[Hop]) -> None:
        self.transport: paramiko.Transport
        self._closing = ExitStack()
        self._too_slow = False
        try:
            for i, hop in enumerate(hops):
                with self.deadline(hop.connect_seconds + LOGIN_SECONDS, hop):
                    self._log_in(hops[:i], hop)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def deadline(self, seconds: float, where: object) -> Iterator[None]:
        """Close the connection and raise `ConnectionLostError` after `seconds`: some requests of
        paramiko, such as running a command, have no timeout."""
        timer = Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception:
            if self._too_slow:
                message = f"{where}: no answer within {seconds:g} s: is the host overloaded?"
                raise ConnectionLostError(message) from None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close the connection; never raises."""
        with suppress(Exception):
            self._closing.close()

    def _give_up(self) -> None:
        self._too_slow = True
        self.close()

    def _log_in(self, through: Sequence[Hop], hop: Hop) -> None:
        try:
            stream = self._open_stream(through, hop)
            self._closing.callback(stream.close)
            transport = paramiko.Transport(stream)
            self._closing.callback(transport.close)
            transport.set_keepalive(_KEEPALIVE_SECONDS)
            transport.banner_timeout = hop.connect_seconds
            transport.auth_timeout = 2 * LOGIN_SECONDS  # the deadline comes first
            options = transport.get_security_options()
            # Known key types first, so that the host shows a key that can be checked.
            known = {one.key.get_name() for one in known_keys(hop) if not one.is_revoked}
            options.key_types = sorted(
                options.key_types,
                key=lambda kind: re.sub("rsa-sha2-.*", "ssh-rsa", kind) not in known,
            )
            transport.start_client(timeout=hop.connect_seconds + LOGIN_SECONDS)
            check_host_key(through, hop, transport.get_remote_server_key())
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise _unreachable(hop, error) from None
        _authenticate(transport, hop)
        self.transport = transport

    def _open_stream(self, through: Sequence[Hop], hop: Hop) -> socket.socket | paramiko.Channel:
        at = (hop.host, hop.port)
        if through:
            unknown, timeout = ("127.0.0.1", 0), hop.connect_seconds
            return self.transport.open_channel("direct-tcpip", at, unknown, timeout=timeout)
        if not hop.command:
            stream = socket.create_connection(at, hop.connect_seconds)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
            return stream
        ours, its = socket.socketpair()  # paramiko.ProxyCommand does not notice its end
        self._closing.callback(ours.close)
        with its:
            process = Popen(
                hop.command,
                stdin=its.fileno(),
                stdout=its.fileno(),
                stderr=DEVNULL,
                start_new_session=True,
            )
        self._closing.callback(process.wait)
        self._closing.callback(process.kill)
        return ours


def _unreachable(hop: Hop, error: Exception) -> DeviceError:
    """The error for a host without an SSH connection."""
    match error:
        case FileNotFoundError() if hop.command:
            command = shlex.join(hop.command)
            return DeviceError(f"{hop}: the ProxyCommand {command!r} is not installed here")
        case paramiko.ChannelException(code=1):
            reason = "AllowTcpForwarding in the sshd_config of the jump host forbids connections"
            return DeviceError(f"{hop}: {reason}")
        case paramiko.ssh_exception.IncompatiblePeer():
            return DeviceError(f"{hop}: no common SSH algorithm: {error}")
        case paramiko.ChannelException():
            reason = f"the jump host cannot reach it: {error.text}"
        case socket.gaierror():
            reason = f"no such host ({error.strerror}): check `host` on the card and the network"
        case ConnectionRefusedError():
            reason = "refuses the connection: does sshd run there, and is the port right?"
        case TimeoutError():
            seconds = f"{hop.connect_seconds:g} s"
            reason = f"no answer within {seconds}: is it on, and reachable from here?"
        case OSError():
            reason = f"cannot be reached: {error.strerror or error}"
        case _:
            answer = shown(str(error), 200) or "it hung up"
            reason = f"does not answer as an SSH server does: {answer}"
    return ConnectionLostError(f"{hop.host}:{hop.port}: {reason}")


def _authenticate(transport: paramiko.Transport, hop: Hop) -> None:
    """Try one key after another. Raises `DeviceError` if none is accepted."""
    tried: list[str] = []
    with ExitStack() as stack:
        held: Sequence[paramiko.AgentKey] = ()
        with suppress(OSError, paramiko.SSHException):  # not an ssh-agent
            held = stack.enter_context(closing(paramiko.Agent())).get_keys()
        for key in _keys(hop, held):
            if not (refusal := _refusal(transport, hop.user, key)):
                return
            held_as = f"{getattr(key, 'comment', '') or 'a key'} in the ssh-agent"
            tried.append(f"{key if isinstance(key, Path) else held_as} ({refusal})")
            if not transport.is_active():
                raise (DeviceError if len(tried) > 1 else ConnectionLostError)(
                    f"{hop}: hung up while {hop.user!r} logged in with: {', '.join(tried)}. If "
                    "these are too many keys for it, set `key` on the card"
                )
    install = shlex.join(["ssh-copy-id", "-p", str(hop.port), f"{hop.user}@{hop.host}"])
    raise DeviceError(
        f"{hop}: no key was accepted for the user {hop.user!r}; tried: "
        f"{', '.join(tried) or 'none, there are none'}. Check `user` and `key` on the card, or "
        f"install a key: {install}"
    )


def _keys(hop: Hop, held: Sequence[paramiko.AgentKey]) -> list[Path | paramiko.AgentKey]:
    """The keys to try. `held`: those of the user's ssh-agent."""
    if hop.keys_only:
        public = [path for key in hop.keys if (path := Path(f"{key}.pub")).exists()]
        named = " ".join(path.read_text(errors="replace") for path in public)
        held = [key for key in held if key.get_base64() in named]
    defaults = (Path(name).expanduser() for name in _DEFAULT_KEYS)
    return [*hop.keys, *held] if hop.keys else [*held, *filter(Path.exists, defaults)]


def _refusal(transport: paramiko.Transport, user: str, key: Path | paramiko.AgentKey) -> str:
    """Why a key is not accepted, "" if it is."""
    try:
        loaded = paramiko.PKey.from_path(key) if isinstance(key, Path) else key
        further = transport.auth_publickey(user, loaded)
        return f"not enough: it asks for {', '.join(further)} as well" if further else ""
    except paramiko.BadAuthenticationType as error:
        return f"it accepts no keys, only {', '.join(error.allowed_types)}"
    except (TypeError, paramiko.PasswordRequiredException):
        return f"encrypted: add it to the ssh-agent: ssh-add {key}"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except (ValueError, UnsupportedAlgorithm, UnknownKeyType):
        return "not a valid private key"
    except (EOFError, paramiko.SSHException):
        return "refused"
