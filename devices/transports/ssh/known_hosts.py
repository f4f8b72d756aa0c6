"""Host keys against the known_hosts files, as OpenSSH writes them. Nothing is ever added."""

import base64
import binascii
import hmac
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from paramiko import PKey

from devices.transports.ssh.route import Hop
from latency.errors import DeviceError


@dataclass(frozen=True)
class KnownKey:
    """A key that a file has for a host. `where`: file and line."""

    kind: str
    blob: bytes
    where: str
    revoked: bool = False


def known_keys(hop: Hop) -> list[KnownKey]:
    """What the known_hosts files have for a host; files that do not exist have nothing."""
    return [key for path in hop.known_hosts for key in _read(path, hop.known_as)]


def check_host_key(through: Sequence[Hop], hop: Hop, key: PKey) -> None:
    """Raises `DeviceError` unless the key that a host shows is known as its own.

    `through`: the jump hosts before it, for the advice how to accept the key.
    """
    known, blob = known_keys(hop), key.asbytes()
    shown = f"{key.get_name()} {fingerprint(blob)}"
    for one in known:
        if one.revoked and one.blob == blob:
            raise DeviceError(
                f"{hop}: ITS HOST KEY IS REVOKED by {one.where}: {shown}. Not connected: "
                "whoever answers there may not be the host; ask its administrator"
            )
    believed = [one for one in known if not one.revoked]
    if any(one.blob == blob for one in believed):
        return
    if believed:
        raise _changed(hop, shown, believed, key.get_name())
    raise DeviceError(
        f"{hop}: its host key is not known: {shown}. If the host itself shows the same "
        f"(ssh-keygen -lf on its /etc/ssh/ssh_host_*_key.pub), accept it by: "
        f"{_how_to_accept(through, hop, key.get_name())}"
    )


def fingerprint(blob: bytes) -> str:
    """Of a public key, as OpenSSH prints it."""
    return "SHA256:" + base64.b64encode(sha256(blob).digest()).decode().rstrip("=")


def _changed(hop: Hop, shown: str, believed: list[KnownKey], kind: str) -> DeviceError:
    one = next((one for one in believed if one.kind == kind), believed[0])
    path = one.where.rpartition(":")[0]
    forget = shlex.join(["ssh-keygen", "-R", hop.known_as, "-f", path])
    return DeviceError(
        f"{hop}: ITS HOST KEY HAS CHANGED: it shows {shown}, but {one.where} has {one.kind} "
        f"{fingerprint(one.blob)}. Someone may be in between, or the host was installed anew. "
        f"Not connected; if its administrator confirms the new key, forget the old one: {forget}"
    )


def _how_to_accept(through: Sequence[Hop], hop: Hop, kind: str) -> str:
    into = hop.known_hosts[0]
    is_plain = hop.known_as in (hop.host.lower(), f"[{hop.host.lower()}]:{hop.port}")
    if is_plain and not through and not hop.command:
        kind = re.sub(r"^ssh-|-sha2-.*", "", kind)
        scan = shlex.join(["ssh-keyscan", "-p", str(hop.port), "-t", kind, hop.host])
        return f"{scan} >> {shlex.quote(str(into))}"
    words = ["ssh", "-o", f"UserKnownHostsFile={into}", "-p", str(hop.port), "-l", hop.user]
    if through:
        words += ["-J", ",".join(map(str, through))]
    return shlex.join([*words, hop.alias, "true"])


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
        try:
            blob = base64.b64decode(words[2], validate=True)
        except binascii.Error:
            continue
        yield KnownKey(words[1], blob, f"{path}:{number}", marker == "@revoked")


def _matches(name: str, patterns: str) -> bool:
    """Whether a line's first word is meant for a host."""
    if patterns.startswith("|1|"):
        return _is_hash_of(name, patterns)
    matched = False
    for pattern in patterns.lower().split(","):
        expression = re.escape(pattern.lstrip("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, name):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _is_hash_of(name: str, hashed: str) -> bool:
    _, _, salt, digest = (hashed.split("|") + [""] * 4)[:4]
    try:
        made = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
        return hmac.compare_digest(made, base64.b64decode(digest))
    except binascii.Error:
        return False
