"""Devices for tests: they answer from a table, and fail on demand."""

from devices.measuring.record import Sample
from devices.measuring.sessions import RetryingSession
from devices.measuring.tracing import trace_network
from devices.replay import ReplayDevice
from latency.errors import ConnectionLostError, WorkloadError


class ShakyDevice(ReplayDevice):
    """Loses its process before chosen runs, counted from 0; refuses chosen workloads; and after
    `gone_after` runs it is gone for good. `slower` multiplies what single operators take."""

    def __init__(self, table, *, losses=(), refused=(), gone_after=None, slower=1.0, **options):
        super().__init__(table, **options)
        self.losses, self.refused, self.gone_after = set(losses), set(refused), gone_after
        self.slower = slower
        self.runs = self.sessions = 0
        self.loaded = []

    def level(self, workload):
        median, noise = super().level(workload)
        return self.slower * median, noise

    def open_session(self):
        if self._is_gone():
            raise ConnectionLostError("unplugged")
        self.sessions += 1
        session, device = super().open_session(), self
        load, run = session.load, session.run
        is_dead = False

        def loaded(workload):
            device.loaded.append(workload.name)
            if workload.name in device.refused:
                raise WorkloadError("cannot load it")
            return load(workload)

        def ran(handle, warmup, runs):
            nonlocal is_dead
            is_dead = is_dead or device._is_gone() or device.runs in device.losses
            device.runs += 1
            if is_dead:
                raise ConnectionLostError("the process died")
            return run(handle, warmup, runs)

        session.load, session.run = loaded, ran
        return session

    def _is_gone(self):
        return self.gone_after is not None and self.runs >= self.gone_after


class Memory:
    """A journal in memory."""

    def __init__(self, samples=()):
        self.samples: list[Sample] = list(samples)

    def append(self, sample):
        self.samples.append(sample)

    def count(self, name):
        return sum(sample.workload == name for sample in self.samples)


def trace_layers(device, network, whole_ms=None):
    """ms of each layer of a network, in a session of its own; {} without a profiler."""
    with RetryingSession(device) as session:
        return trace_network(session, network, whole_ms) if session.traces else {}
