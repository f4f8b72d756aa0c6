"""Host keys against the known_hosts files, as OpenSSH writes them. Nothing is ever added.

paramiko reads the keys and hashes names. Its `HostKeys` is not enough: one broken or `@revoked`
line ends the reading, and `*`, `!` and a second key of the same kind have no meaning.
"""

import re
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
    """A key that a file has for a host. `where`: file and line."""

    key: PKey
    where: str
    is_revoked: bool


def known_keys(hop: Hop) -> list[KnownKey]:
    """The keys that the known_hosts files have for a host; files that do not exist have none."""
    return [key for path in hop.known_hosts for key in _read(path, hop.known_as)]


def check_host_key(through: Sequence[Hop], hop: Hop, key: PKey) -> None:
    """Raises `DeviceError` unless the key that a host shows is known as its own.

    `through`: the jump hosts before it, for the advice how to accept the key.
    """
    known, kind, shown = known_keys(hop), key.get_name(), f"{key.get_name()} {key.fingerprint}"
    for one in known:
        if one.is_revoked and one.key == key:
            raise DeviceError(
                f"{hop}: ITS HOST KEY IS REVOKED by {one.where}: {shown}. Not connected: "
                "whoever answers there may not be the host; ask its administrator"
            )
    valid = [one for one in known if not one.is_revoked]
    if not valid:
        raise DeviceError(
            f"{hop}: its host key is not known: {shown}. If the host itself shows the same "
            f"(ssh-keygen -lf on its /etc/ssh/ssh_host_*_key.pub), accept it by: "
            f"{_how_to_accept(through, hop, kind)}"
        )
    if all(one.key != key for one in valid):
        one = next((one for one in valid if one.key.get_name() == kind), valid[0])
        path = one.where.rpartition(":")[0]
        forget = shlex.join(["ssh-keygen", "-R", hop.known_as, "-f", path])
        raise DeviceError(
            f"{hop}: ITS HOST KEY HAS CHANGED: it shows {shown}, but {one.where} has "
            f"{one.key.get_name()} {one.key.fingerprint}. Someone may be in between, or the host "
            "was installed anew. Not connected; if its administrator confirms the new key, "
            f"forget the old one: {forget}"
        )


def _how_to_accept(through: Sequence[Hop], hop: Hop, kind: str) -> str:
    into = hop.known_hosts[0]
    is_plain = hop.known_as in (hop.host.lower(), f"[{hop.host.lower()}]:{hop.port}")
    if is_plain and not through and not hop.command:
        kind = re.sub(r"^ssh-|-sha2-.*", "", kind)
        scan = shlex.join(["ssh-keyscan", "-p", str(hop.port), "-t", kind, hop.host])
        return f"{scan} >> {shlex.quote(str(into))}"
    jumps = ["-J", ",".join(map(str, through))] if through else []
    words = ["ssh", "-o", f"UserKnownHostsFile={into}", "-p", str(hop.port), "-l", hop.user]
    return shlex.join([*words, *jumps, hop.alias, "true"])


def _read(path: Path, name: str) -> Iterator[KnownKey]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or marker not in ("", "@revoked") or not _matches(name, words[0]):
            continue  # (certificate authorities are not ours: paramiko knows none)
        with suppress(SSHException, InvalidHostKey, ValueError):  # a line with no valid key
            if entry := HostKeyEntry.from_line(" ".join(words[:3])):
                yield KnownKey(entry.key, f"{path}:{number}", marker == "@revoked")


def _matches(name: str, patterns: str) -> bool:
    """Whether a line's first word is meant for a host."""
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
