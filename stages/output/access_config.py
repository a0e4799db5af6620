"""Settings for what a job may read, and how long it waits for storage; none affects pixels."""

from pydantic import Field

from storyreel.stages.settings import Settings


class ReferencesConfig(Settings):
    """Places from which reference images may be read, besides the folder of the input file."""

    https_hosts: tuple[str, ...] = ()
    """Hosts from which images may be fetched by https, such as `images.example.org`."""
    s3_buckets: tuple[str, ...] = ()
    """Buckets from which images may be read."""
    private_addresses: bool = False
    """Allow these hosts to have private, loopback or link-local addresses."""


class StorageConfig(Settings):
    """The behaviour of a run while storage does not respond."""

    patience_s: float = Field(default=3600.0, ge=0)
    """Time for which a run waits for a full disk or a store that does not respond, seconds."""
