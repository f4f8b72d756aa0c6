"""Checks host keys against OpenSSH's known_hosts files, and never adds any.

paramiko's `HostKeys` does not suffice: it stops at a broken or `@revoked` line, and ignores `*`,
`!` and a second key of the same type.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from paramiko import HostKeys, PKey, SSHException
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from devices.transports.ssh.route import Hop
from latency.errors import DeviceError


@dataclass(frozen=True)
class KnownKey:
    """A key of a host. `where`: file and line."""

    key: PKey
    where: str
    is_revoked: bool


def known_keys(hop: Hop) -> list[KnownKey]:
    """The keys of a host in its known_hosts files; missing files are skipped."""
    return [key for path in hop.known_hosts for key in _read(path, hop.known_as)]


def check_host_key(through: Sequence[Hop], hop: Hop, key: PKey) -> None:
    """Raise `DeviceError` unless a host's key is known.

    `through`: the jump hosts before it, for the command that accepts the key.
    """
    known, shown = known_keys(hop), f"{key.get_name()} {key.fingerprint}"
    for one in known:
        if one.is_revoked and one.key == key:
            raise DeviceError(
                f"{hop}: ITS HOST KEY IS REVOKED by {one.where}: {shown}. Not connected: "
                "another machine may be answering; ask its administrator"
            )
    valid = [one for one in known if not one.is_revoked]
    if not valid:
        jumps = ["-J", ",".join(map(str, through))] if through else []
        into = f"UserKnownHostsFile={hop.known_hosts[0]}"
        ssh = ["ssh", "-o", into, "-p", str(hop.port), "-l", hop.user]
        raise DeviceError(
            f"{hop}: its host key is not known: {shown}. Compare it on the host (ssh-keygen -lf "
            "/etc/ssh/ssh_host_*_key.pub); if it is the same, accept it by: "
            f"{shlex.join([*ssh, *jumps, hop.alias, 'true'])}"
        )
    if all(one.key != key for one in valid):
        one = next((one for one in valid if one.key.get_name() == key.get_name()), valid[0])
        path = one.where.rpartition(":")[0]
        remove = shlex.join(["ssh-keygen", "-R", hop.known_as, "-f", path])
        raise DeviceError(
            f"{hop}: ITS HOST KEY HAS CHANGED: it shows {shown}, but {one.where} has "
            f"{one.key.get_name()} {one.key.fingerprint}. The connection may be intercepted, or "
            "the host was reinstalled. Not connected; if its administrator confirms the new key, "
            f"remove the old one: {remove}"
        )


def _read(path: Path, name: str) -> Iterator[KnownKey]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or marker not in ("", "@revoked") or not _matches(name, fields[0]):
            continue  # paramiko does not support @cert-authority
        with suppress(SSHException, InvalidHostKey, ValueError):  # no valid key
            if entry := HostKeyEntry.from_line(" ".join(fields[:3])):
                yield KnownKey(entry.key, f"{path}:{number}", marker == "@revoked")


def _matches(name: str, patterns: str) -> bool:
    """Whether the first field of a line applies to a host."""
    if patterns.startswith("|1|"):
        with suppress(ValueError, AssertionError):  # not a valid hash
            return HostKeys.hash_host(name, patterns) == patterns
        return False
    found = [
        pattern
        for pattern in patterns.lower().split(",")
        if fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]"))
    ]
    return bool(found) and not any(pattern.startswith("!") for pattern in found)
