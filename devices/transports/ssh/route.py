"""The hosts to log in to, from a card's section `[ssh]` and the user's ssh configuration."""

import getpass
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from paramiko import ConfigParseError, CouldNotCanonicalize, SSHConfig

from devices.card import Ssh
from latency.errors import DeviceError

MAX_HOPS = 8
"""A longer chain of jump hosts counts as a loop."""

_SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
_MAX_INCLUDES = 16
_ADDRESS = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:\s\[\]]+)(?::(?P<port>\d+))?"
)


@dataclass(frozen=True)
class Hop:
    """A host to log in to. `keys`: its private keys, () for the default ones. `command`: its
    ProxyCommand. `alias`: its name on the card."""

    alias: str
    host: str
    port: int
    user: str
    keys: tuple[Path, ...]
    keys_only: bool
    command: tuple[str, ...]
    known_as: str
    known_hosts: tuple[Path, ...]
    connect_seconds: float

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def route(settings: Ssh) -> tuple[Hop, ...]:
    """The hosts to log in to, each through the one before it; the last is the card's.

    Raises `DeviceError` if the card or the ssh configuration is not valid.
    """
    path = settings.config
    try:
        lines = _lines(path, _MAX_INCLUDES) if path.exists() else ()
        return _hops(SSHConfig.from_text("\n".join(lines)), settings, MAX_HOPS)
    except OSError as error:
        raise DeviceError(f"{error.filename or path}: {error.strerror}") from None
    except (ConfigParseError, CouldNotCanonicalize, ValueError, ImportError) as error:
        raise DeviceError(f"{path}: not a valid ssh configuration: {error}") from None


def _hops(config: SSHConfig, settings: Ssh, most: int) -> tuple[Hop, ...]:
    if most == 0:
        raise DeviceError(f"{settings.host}: more than {MAX_HOPS} jump hosts: is there a loop?")
    options = config.lookup(settings.host)
    jump = settings.jump or options.get("proxyjump", "")
    command = "" if jump else options.get("proxycommand") or ""
    keys = [Path(name) for name in options.get("identityfile", [])]
    if settings.key:  # jump hosts try the card's key as well
        keys = [*keys, settings.key] if most < MAX_HOPS else [settings.key]
    hop = _hop(settings, options, keys, command)
    if not jump or jump.lower() == "none":
        return (hop,)
    before, _, last = jump.rpartition(",")
    found = _ADDRESS.fullmatch(last.strip())
    if not found:
        raise DeviceError(f"{last.strip()!r} is not a jump host: write [user@]host[:port]")
    port = int(found["port"]) if found["port"] else None
    through = {"host": found["host"].strip("[]"), "user": found["user"], "port": port}
    via = settings.model_copy(update={**through, "jump": before or None})
    return (*_hops(config, via, most - 1), hop)


def _hop(settings: Ssh, options: Mapping[str, Any], keys: list[Path], command: str) -> Hop:
    host, port = options["hostname"], settings.port or int(options.get("port", 22))
    known_hosts, seconds = [str(settings.known_hosts)], settings.connect_seconds
    if "known_hosts" not in settings.model_fields_set and "userknownhostsfile" in options:
        known_hosts = shlex.split(options["userknownhostsfile"])
    if "connect_seconds" not in settings.model_fields_set and "connecttimeout" in options:
        seconds = float(options["connecttimeout"])
    known_hosts += shlex.split(options.get("globalknownhostsfile", _SYSTEM_KNOWN_HOSTS))
    name = options.get("hostkeyalias") or (host if port == 22 else f"[{host}]:{port}")
    return Hop(
        alias=settings.host,
        host=host,
        port=port,
        user=settings.user or options.get("user") or getpass.getuser(),
        keys=tuple(path.expanduser() for path in keys),
        keys_only=options.get("identitiesonly", "no").lower() == "yes",
        command=tuple(shlex.split(command)),
        known_as=name.lower(),
        known_hosts=tuple(Path(name).expanduser() for name in known_hosts),
        connect_seconds=seconds,
    )


def _lines(path: Path, most: int) -> Iterator[str]:
    """The lines of a configuration, with included files in place (paramiko has no Include)."""
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
        yield block  # an included file may have opened another block
