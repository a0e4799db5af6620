"""Settings of the cluster and its pools; none of them changes a pixel."""

from collections.abc import Mapping

from pydantic import Field, NonNegativeFloat

from storyreel.stages.settings import Settings


class ClusterConfig(Settings):
    """The Ray cluster that the pools run on."""

    address: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+:[0-9]{1,5}$")
    """`host:port` of a running cluster (6379 is Ray's port); without it a local Ray is started."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs that a local Ray hands out; all of the machine's by default."""
    object_store_mb: int = Field(default=128, ge=80)
    """Shared memory of a local Ray, MB; only records travel through it."""


class PoolConfig(Settings):
    """The size of a pool, the resources of its actors, and its limits."""

    num_actors: int = Field(default=1, ge=1)
    """Actors, each a process that holds its own models; those that find no place wait for one."""
    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that an actor reserves; not the number of its threads."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that an actor reserves, possibly a share of one."""
    memory_mb: int = Field(default=0, ge=0)
    """Main memory that an actor reserves, MB."""
    resources: Mapping[str, NonNegativeFloat] = {}
    """What else an actor reserves of what the cluster's nodes were started with."""
    max_attempts: int = Field(default=3, ge=1)
    """Attempts of a unit, each on another worker, before it fails."""
    unit_timeout_s: float = Field(default=3600.0, gt=0)
    """Time after which a unit counts as hanging: its worker is killed and replaced, seconds."""
    step_timeout_s: float = Field(default=600.0, gt=0)
    """As `unit_timeout_s`, for the time without a step: one call of a model, one film frame."""
    load_timeout_s: float = Field(default=1800.0, gt=0)
    """Time in which an actor that has found its place must load its models, seconds."""
    placement_timeout_s: float = Field(default=600.0, gt=0)
    """Time after which a pool ends if units wait and no actor finds a place, seconds."""
    max_failed_share: float = Field(default=0.5, ge=0, le=1)
    """Share of given-up units, of those over, past which the pool stops."""

    def needs(self) -> dict[str, float]:
        """The resources that an actor reserves, by Ray's names; memory in bytes."""
        named = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory_mb * 2.0**20}
        return {name: need for name, need in {**named, **self.resources}.items() if need > 0}
