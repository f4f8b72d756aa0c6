"""The way to a host: a card's section `[ssh]` and the user's ssh configuration, put together."""

import getpass
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

from paramiko import ConfigParseError, CouldNotCanonicalize, SSHConfig

from devices.card import Ssh
from latency.errors import DeviceError

MOST_HOPS = 8
"""A chain of jump hosts is never longer: one that is goes round in a circle."""

_SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
_MOST_INCLUDES = 16
_MOST_CONNECT_SECONDS = 3600
_ADDRESS = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:\s\[\]]+)(?::(?P<port>\d+))?"
)
_NOT_IN_A_NAME = re.compile(r"^-|[\s\x00-\x1f'`\"$\\;&<>|(){}]|^$")


@dataclass(frozen=True)
class Hop:
    """A host to log in to. `keys`: the private keys named for it, () for the default ones.
    `command`: what to reach it through (ProxyCommand). `alias`: as the user calls it."""

    alias: str
    host: str
    port: int
    user: str
    keys: tuple[Path, ...]
    keys_only: bool
    command: str | None
    known_as: str
    known_hosts: tuple[Path, ...]
    connect_seconds: float

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def route(settings: Ssh) -> tuple[Hop, ...]:
    """The hosts to log in to, one through the other; the last is the card's.

    Raises `DeviceError` where the card or the ssh configuration cannot be meant.
    """
    return _Map(settings).route_to(
        settings.host, settings.user, settings.port, settings.key, settings.jump, MOST_HOPS
    )


class _Map:
    """Where hosts are, as the card and the ssh configuration say."""

    def __init__(self, settings: Ssh) -> None:
        self._settings = settings
        self._path = settings.config.expanduser()
        try:
            lines = list(_lines(self._path, _MOST_INCLUDES)) if self._path.exists() else []
            self._config = SSHConfig.from_text("\n".join(lines))
        except OSError as error:
            raise DeviceError(f"{error.filename or self._path}: {error.strerror}") from None
        except (ConfigParseError, ValueError) as error:
            raise self._unreadable(error) from None

    def route_to(
        self,
        alias: str,
        user: str | None,
        port: int | None,
        key: Path | None,
        jump: str | None,
        most: int,
    ) -> tuple[Hop, ...]:
        """As `route`; what is not given is as the ssh configuration says of the alias."""
        if most == 0:
            raise DeviceError(f"{alias}: more than {MOST_HOPS} jump hosts: do they go in a circle?")
        try:
            said = dict(self._config.lookup(alias))
            hop = self._hop(alias, user, port, key, said)
        except (ConfigParseError, CouldNotCanonicalize, ValueError, ImportError) as error:
            raise self._unreadable(error) from None
        jumps = jump or said.get("proxyjump")
        if not jumps:
            return (hop,)
        hop = replace(hop, command=None)
        if jumps.lower() == "none":
            return (hop,)
        *before, last = [self._address(one.strip()) for one in jumps.split(",")]
        through = ",".join(one.group(0) for one in before) or None
        port = int(last["port"]) if last["port"] else None
        host = last["host"].strip("[]")
        return (*self.route_to(host, last["user"], port, None, through, most - 1), hop)

    def _hop(
        self, alias: str, user: str | None, port: int | None, key: Path | None, said: dict
    ) -> Hop:
        host = said["hostname"]
        if _NOT_IN_A_NAME.search(host):
            raise DeviceError(f"{host!r} is no name of a host: check `host` on the card")
        port = port or int(said.get("port", 22))
        if not 0 < port < 65536:
            raise DeviceError(f"{alias}: {port} is no port: it is a number from 1 to 65535")
        keys = [key] if key else [Path(name) for name in said.get("identityfile", [])]
        if not key and self._settings.key:
            keys.append(self._settings.key)  # a jump host is given the card's key as well
        name = said.get("hostkeyalias") or (host if port == 22 else f"[{host}]:{port}")
        return Hop(
            alias=alias,
            host=host,
            port=port,
            user=user or said.get("user") or getpass.getuser(),
            keys=tuple(path.expanduser() for path in keys),
            keys_only=said.get("identitiesonly", "no").lower() == "yes",
            command=said.get("proxycommand"),
            known_as=name.lower(),
            known_hosts=self._known_hosts(said),
            connect_seconds=self._connect_seconds(said),
        )

    def _known_hosts(self, said: dict) -> tuple[Path, ...]:
        own = [str(self._settings.known_hosts)]
        if "known_hosts" not in self._settings.model_fields_set and "userknownhostsfile" in said:
            own = shlex.split(said["userknownhostsfile"])
        system = shlex.split(said.get("globalknownhostsfile", _SYSTEM_KNOWN_HOSTS))
        return tuple(Path(name).expanduser() for name in (*own, *system))

    def _connect_seconds(self, said: dict) -> float:
        if "connect_seconds" not in self._settings.model_fields_set:
            seconds = float(said.get("connecttimeout", self._settings.connect_seconds))
            if not 0 < seconds <= _MOST_CONNECT_SECONDS:
                raise ValueError(f"ConnectTimeout {said['connecttimeout']}")
            return seconds
        return self._settings.connect_seconds

    def _address(self, text: str) -> re.Match[str]:
        found = _ADDRESS.fullmatch(text)
        if not found:
            raise DeviceError(f"{text!r} is no jump host: write [user@]host[:port]")
        return found

    def _unreadable(self, error: Exception) -> DeviceError:
        return DeviceError(f"{self._path}: cannot be read as an ssh configuration: {error}")


def _lines(path: Path, most: int) -> Iterator[str]:
    """Of a configuration, with the files that it includes in their places."""
    block = "Host *"
    for line in path.read_text().splitlines():
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() in ("host", "match"):
            block = line
        if word.lower() != "include" or most == 0:
            yield line
            continue
        for pattern in shlex.split(rest):
            for name in sorted(glob(str(Path("~/.ssh").expanduser() / Path(pattern).expanduser()))):
                yield from _lines(Path(name), most - 1)
        yield block  # goes on after what an included file has opened
