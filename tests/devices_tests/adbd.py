"""The device's end of the adb protocol, for tests: `AdbDaemon` is a phone to which the real adb
client connects (`adb connect 127.0.0.1:PORT`).

A message is a header of six little-endian words (command, two arguments, length and checksum of
the payload, the command inverted) and the payload. A stream is opened by the host and named by a
number of each side; whoever writes waits for the other's OKAY before it writes again.

    host  CNXN version, most, "host::..."   ->
          <-  CNXN version, most, "device::...;features=shell_v2,..."     phone
    host  OPEN 7, 0, "shell,v2:ls"          ->
          <-  OKAY 1, 7;  WRTE 1, 7, output;  CLSE 1, 7                   phone

Where the phone is told not to authorise, it answers CNXN with AUTH and never accepts.
"""

import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import adbd_services

VERSION = 0x01000001
"""From this version on, checksums are not computed."""
MOST_PAYLOAD = 256 * 1024
FEATURES = "shell_v2,cmd,stat_v2,ls_v2"
_HEADER = struct.Struct("<4sIIIII")


class AdbDaemon:
    """A phone on a port of 127.0.0.1, whose commands run in the folder `root`.

    Paths under /data/local/tmp and /sys are those of `root`. Faults on demand: `authorised`
    (False: never accepts a key), `refusing` (closes every connection), `garbage` (answers every
    service with noise), `features` (what it says it can), `space` (bytes that files may take
    before the disk is full), `cut` (drops every connection now).
    """

    def __init__(self, root: Path, version: int = VERSION) -> None:
        self.root = root
        self.version = version
        self.authorised = True
        self.refusing = False
        self.garbage = False
        self.features = FEATURES
        self.space: int | None = None
        self.commands: list[str] = []
        self.pushed: list[str] = []
        self._processes: set[subprocess.Popen] = set()
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._port = 0

    @property
    def serial(self) -> str:
        """Under which the adb server lists it."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self.spawn(self._accept, self._listener)

    def stop(self) -> None:
        """Go away: the port, the connections, and every process that was started."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()
        for process in list(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()

    def cut(self) -> None:
        """Drop every connection, as a pulled cable does; processes run on."""
        for connection in list(self._connections):
            connection.close()

    def mapped(self, text: str) -> str:
        """A command or path with the phone's folders replaced by those in `root`."""
        return re.sub(r"(?<![\w/.-])/(data/local/tmp|sys)(?=/|\b)", rf"{self.root}/\1", text)

    def run(self, command: str, merged: bool) -> subprocess.Popen:
        """Start a command in `root`."""
        self.commands.append(command)
        process = subprocess.Popen(
            ["/bin/sh", "-c", self.mapped(command)],
            cwd=self.root,
            env={"PATH": str(self.root / "bin"), "PHONE": str(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            start_new_session=True,
        )
        self._processes.add(process)
        return process

    def ended(self, process: subprocess.Popen) -> None:
        """A process that was started has ended."""
        self._processes.discard(process)

    def spawn(self, target: Callable, *arguments: object) -> None:
        """Run a function in a thread that `stop` waits for."""
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            if self.refusing:
                accepted.close()
                continue
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, accepted)
            self._connections.add(connection)
            self.spawn(self._serve, connection)

    def _serve(self, connection: "_Connection") -> None:
        try:
            with suppress(OSError, EOFError):
                connection.serve()
        finally:
            connection.close()
            self._connections.discard(connection)


class _Connection:
    """A host that is connected."""

    def __init__(self, daemon: AdbDaemon, peer: socket.socket) -> None:
        self._daemon = daemon
        self._peer = peer
        self._streams: dict[int, _Stream] = {}
        self._sending = threading.Lock()
        self._checked = True
        self._most = 4096

    def serve(self) -> None:
        """Answer until the host goes."""
        while True:
            command, first, second, payload = self._receive()
            if command == b"CNXN":
                self._greet(first, second)
            elif command == b"AUTH":
                if first == 2:  # signed with a key; the public key itself (3) is never answered
                    self.send(b"AUTH", 1, 0, os.urandom(20))
            elif command == b"OPEN":
                self._open(first, payload.rstrip(b"\0").decode())
            elif (stream := self._streams.get(second)) is None:
                if command != b"CLSE":
                    self.send(b"CLSE", 0, first)
            elif command == b"OKAY":
                stream.allowed.release()
            elif command == b"WRTE":
                stream.received.put(payload)
                self.send(b"OKAY", second, first)
            elif command == b"CLSE":
                stream.end()

    def send(self, command: bytes, first: int, second: int, payload: bytes = b"") -> None:
        """Send a message."""
        total = sum(payload) & 0xFFFFFFFF if self._checked else 0
        inverted = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
        header = _HEADER.pack(command, first, second, len(payload), total, inverted)
        with self._sending:
            self._peer.sendall(header + payload)

    def forget(self, number: int) -> None:
        """A stream is over."""
        self._streams.pop(number, None)

    @property
    def most(self) -> int:
        """The longest payload that the host takes."""
        return self._most

    def close(self) -> None:
        """Drop the host."""
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()
        for stream in list(self._streams.values()):
            stream.end()

    def _receive(self) -> tuple[bytes, int, int, bytes]:
        command, first, second, length, total, inverted = _HEADER.unpack(self._read(24))
        if struct.unpack("<I", command)[0] ^ 0xFFFFFFFF != inverted or length > MOST_PAYLOAD:
            raise EOFError("not a message of the adb protocol")
        payload = self._read(length)
        if self._checked and sum(payload) & 0xFFFFFFFF != total:
            raise EOFError("a message with a wrong checksum")
        return command, first, second, payload

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            received = self._peer.recv(size - len(data))
            if not received:
                raise EOFError
            data += received
        return bytes(data)

    def _greet(self, version: int, most: int) -> None:
        if not self._daemon.authorised:
            self.send(b"AUTH", 1, 0, os.urandom(20))
            return
        self._most = min(most, MOST_PAYLOAD)
        banner = f"device::ro.product.name=stand_in;features={self._daemon.features}"
        self.send(b"CNXN", self._daemon.version, MOST_PAYLOAD, banner.encode())
        self._checked = min(version, self._daemon.version) < VERSION

    def _open(self, remote: int, service: str) -> None:
        number = max(self._streams, default=0) + 1
        stream = self._streams[number] = _Stream(self, number, remote)
        self.send(b"OKAY", number, remote)
        self._daemon.spawn(self._run, stream, service)

    def _run(self, stream: "_Stream", service: str) -> None:
        with suppress(OSError, EOFError):
            adbd_services.serve(self._daemon, stream, service)
        stream.close()


class _Stream:
    """A stream that the host opened."""

    def __init__(self, connection: _Connection, number: int, remote: int) -> None:
        self.received: queue.Queue[bytes | None] = queue.Queue()
        self.allowed = threading.Semaphore(1)
        self._connection = connection
        self._number = number
        self._remote = remote
        self._buffer = bytearray()
        self._ended = False

    def read(self, size: int) -> bytes:
        """Exactly so many bytes; EOFError where the host closes before."""
        while len(self._buffer) < size:
            data = self.received.get()
            if data is None:
                raise EOFError
            self._buffer += data
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def write(self, data: bytes) -> None:
        """Send it all; EOFError where the host has closed."""
        for start in range(0, len(data), self._connection.most):
            self.allowed.acquire()
            if self._ended:
                raise EOFError
            part = data[start : start + self._connection.most]
            self._connection.send(b"WRTE", self._number, self._remote, part)

    def end(self) -> None:
        """The host has closed it."""
        self._ended = True
        self.received.put(None)
        self.allowed.release()

    def close(self) -> None:
        """Close it."""
        self._connection.forget(self._number)
        with suppress(OSError):
            self._connection.send(b"CLSE", self._number, self._remote)
