"""Few-shot transfer of latencies to a new device, from tables of other devices."""

from latency.transfer.few_samples import choose_samples, few_shot

__all__ = ["choose_samples", "few_shot"]
