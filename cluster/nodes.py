"""The nodes of the cluster, as one pool sees them: which can hold an actor, which are avoided."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import ray

MAX_STRIKES = 3
"""Units that a node may fail, and that another node can do, before it is avoided."""

AVOIDED_S = 600.0
"""Time after which an avoided node is forgiven, seconds."""

LOCAL = {"storyreel/local": "true"}
"""The label of the node of a local Ray."""

logger = logging.getLogger(__name__)


class Nodes:
    """Remembers which nodes fail what others can do."""

    def __init__(self, needs: Mapping[str, float]) -> None:
        """See the cluster with the eyes of a pool, an actor of which needs `needs`."""
        self._needs = needs
        self._strikes: defaultdict[str, set[str]] = defaultdict(set)
        self._forgiven_at: dict[str, float] = {}

    def strike(self, node: str, reason: str) -> None:
        """A node failed at what is well done elsewhere; `reason` tells one case from another."""
        if node in self._forgiven_at:
            return
        self._strikes[node].add(reason)
        if len(self._strikes[node]) >= MAX_STRIKES:
            logger.warning("node %s: avoided for %g s: %s", node, AVOIDED_S, self._strikes[node])
            self._forgiven_at[node] = time.monotonic() + AVOIDED_S

    def avoided(self) -> frozenset[str]:
        """The nodes that no actor should be on now; never all that could hold one."""
        for node in [n for n, end in self._forgiven_at.items() if end <= time.monotonic()]:
            del self._forgiven_at[node], self._strikes[node]
        avoided = frozenset(self._forgiven_at)
        return avoided if avoided and self.fitting() - avoided else frozenset()

    def fitting(self) -> frozenset[str]:
        """The living nodes that are large enough for an actor."""
        fitting = {
            node["NodeID"]
            for node in _living()
            if all(node["Resources"].get(name, 0) >= need for name, need in self._needs.items())
        }
        return frozenset(fitting)

    def explain(self) -> str:
        """Describe the resources that an actor needs and those that the nodes offer."""
        have = [
            {name: node["Resources"].get(name, 0) for name in self._needs} for node in _living()
        ]
        return f"an actor needs {dict(self._needs)}, the cluster's nodes have {have}"


def is_local() -> bool:
    """True if this process is connected to a local Ray, to which no nodes can be added."""
    return any(LOCAL.items() <= node["Labels"].items() for node in _living())


def is_alive(node_id: str) -> bool:
    """True if the cluster lists the node as alive."""
    return any(node["NodeID"] == node_id for node in _living())


def _living() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
