"""The resources of a run, for all measurements: the stage, the stores, the fixed backend and the gateway kit."""

from dataclasses import dataclass
from functools import cached_property

from benchmarks.backends import fixed_backend
from benchmarks.gateway import GatewayKit
from benchmarks.processes import Stage
from benchmarks.stores import start_redis


@dataclass
class Bench:
    """One run. Each resource starts when a measurement first uses it."""

    stage: Stage
    seconds: float

    @cached_property
    def redis_url(self) -> str:
        """The URL of the run's Redis."""
        return start_redis(self.stage)

    @cached_property
    def backend(self) -> str:
        """The base URL of the fixed backend."""
        return fixed_backend(self.stage)

    @cached_property
    def kit(self) -> GatewayKit:
        """Starts gateways."""
        return GatewayKit(self.stage, self.redis_url)
