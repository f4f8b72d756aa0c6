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

from devices.transports.channel import shown
from devices.transports.ssh.known_hosts import check_host_key, known_keys
from devices.transports.ssh.route import Hop
from latency.errors import ConnectionLostError, DeviceError

# Its threads log to stderr otherwise.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

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
            _authenticate(transport, hop)
        except (OSError, EOFError, OverflowError, paramiko.SSHException) as error:
            raise ConnectionLostError(
                f"{hop} cannot be reached: {shown(str(error), 200) or 'it hung up'}. Is it on, "
                "does an SSH server answer there, and are `host`, `port`, `jump` on the card right?"
            ) from None
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


def _authenticate(transport: paramiko.Transport, hop: Hop) -> None:
    """Try one key after another. Raises `DeviceError` if none is accepted, `ConnectionLostError` if
    the host hangs up."""
    tried: list[str] = []
    with closing(paramiko.Agent()) as agent:
        for key in _keys(hop, agent.get_keys()):
            try:
                loaded = paramiko.PKey.from_path(key) if isinstance(key, Path) else key
                if not (further := transport.auth_publickey(hop.user, loaded)):
                    return
                refusal = f"not enough: it asks for {', '.join(further)} as well"
            except Exception as error:  # paramiko raises many kinds for keys it cannot use
                refusal = shown(str(error), 200)
            comment = getattr(key, "comment", "") or "a key"
            name = key if isinstance(key, Path) else f"{comment} in the ssh-agent"
            tried.append(f"{name} ({refusal})")
            if not transport.is_active():
                break
    install = shlex.join(["ssh-copy-id", "-p", str(hop.port), f"{hop.user}@{hop.host}"])
    raise (DeviceError if transport.is_active() else ConnectionLostError)(
        f"{hop}: no key was accepted for the user {hop.user!r}; tried: "
        f"{', '.join(tried) or 'none'}. Check `user` and `key` on the card, add an encrypted key "
        f"to the ssh-agent (ssh-add), or install a key: {install}"
    )


def _keys(hop: Hop, held: Sequence[paramiko.AgentKey]) -> list[Path | paramiko.AgentKey]:
    """The keys to try. `held`: those of the user's ssh-agent."""
    if hop.keys_only:
        public = [path for key in hop.keys if (path := Path(f"{key}.pub")).exists()]
        named = " ".join(path.read_text(errors="replace") for path in public)
        held = [key for key in held if key.get_base64() in named]
    defaults = (Path(name).expanduser() for name in _DEFAULT_KEYS)
    return [*hop.keys, *held] if hop.keys else [*held, *filter(Path.exists, defaults)]
