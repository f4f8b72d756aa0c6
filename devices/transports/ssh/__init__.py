"""A host over SSH: SFTP sends the agent and the models, the host's Python runs the agent."""

from collections.abc import Iterator
from contextlib import contextmanager

from devices.agent_archive import SUFFIX, agent_archive
from devices.card import Ssh
from devices.transports.channel import AgentChannel, shown
from devices.transports.ssh.host import LOSSES, Host
from latency.errors import ConnectionLostError


class SshTransport:
    """Keeps a connection to the host, and makes a new one after a loss. Not thread-safe."""

    def __init__(self, settings: Ssh) -> None:
        self._settings = settings
        self._host: Host | None = None

    @property
    def label(self) -> str:
        """The host as on the card."""
        return self._settings.host

    def send(self, content: bytes, suffix: str) -> str:
        """Send a file, once per content; returns its path on the host."""
        with self._on_the_host("sending a file") as host:
            return host.put(content, suffix)

    def start(self) -> AgentChannel:
        """Start an agent."""
        with self._on_the_host("starting the agent") as host:
            path = host.put(agent_archive(), SUFFIX)
            return AgentChannel(host.run(path), str(host))

    def close(self) -> None:
        """End the connection, and the processes that it started."""
        if self._host is not None:
            self._host.close()
            self._host = None

    @contextmanager
    def _on_the_host(self, doing: str) -> Iterator[Host]:
        """The host over a live connection, which is closed if it is lost."""
        if self._host is not None and not self._host.is_alive:
            self.close()
        try:
            self._host = self._host or Host(self._settings)
            yield self._host
        except ConnectionLostError:
            self.close()
            raise
        except LOSSES as error:
            where, reason = self._host or self.label, shown(str(error), 300) or "it hung up"
            self.close()
            message = f"{where}: the connection was lost while {doing}: {reason}"
            raise ConnectionLostError(message) from None
