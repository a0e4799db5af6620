"""The environments that a job was rendered in: hardware and versions that its bytes depend on."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output

ENVIRONMENTS = "environments.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_environments(output: Output) -> Mapping[str, tuple[str, ...]]:
    """Return the environments (`stages.hardware.environment_class`) of a job's actors, by pool.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return output.read_record(ENVIRONMENTS, _Record).pools
    except FileNotFoundError:  # nothing was rendered yet, or by version 0.1
        return {}


class Environments:
    """Compares the actors of a run with those of earlier runs; may be called from any thread."""

    def __init__(self, output: Output, *, mixed: bool) -> None:
        """Read what earlier runs have recorded at `output`.

        Args:
            mixed: accept environments that no earlier run had.
        """
        self._output = output
        self._mixed = mixed
        self._earlier = read_environments(output)
        self._all = dict(self._earlier)
        self._lock = threading.Lock()

    @property
    def known(self) -> Mapping[str, tuple[str, ...]]:
        """The environments of this and of earlier runs, by pool."""
        with self._lock:
            return dict(self._all)

    def join(self, pool: str, environment: str) -> str | None:
        """Record an actor's environment; returns why it must not work, or `None`.

        One run may have several, on a mixed cluster.
        """
        earlier = self._earlier.get(pool, ())
        if earlier and environment not in earlier and not self._mixed:
            return (
                f"runs on {environment}; the job was begun on {' and on '.join(earlier)}, and its"
                " films would not be the same; --set execution.mixed_environments=true allows it"
            )
        with self._lock:
            known = self._all.get(pool, ())
            if environment not in known:
                self._all[pool] = (*known, environment)
                self._output.publish(ENVIRONMENTS, to_json(_Record(pools=self._all)))
        return None
