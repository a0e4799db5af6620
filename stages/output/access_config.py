"""What a job may reach, and how long it waits for its storage; nothing here shapes a pixel."""

from pydantic import Field

from storyreel.stages.settings import Settings


class ReferencesConfig(Settings):
    """Where the reference images of stories may come from, beside the folders of their files."""

    https_hosts: tuple[str, ...] = ()
    """Hosts from which images are fetched, such as `images.example.org`."""
    s3_buckets: tuple[str, ...] = ()
    """Buckets from which images are read."""
    private_addresses: bool = False
    """Whether those hosts may have private, loopback or link-local addresses."""


class StorageConfig(Settings):
    """How a run treats storage that does not serve."""

    patience_s: float = Field(default=3600.0, ge=0)
    """Time that a full disk or a store that is away is waited for before the run ends, seconds."""
