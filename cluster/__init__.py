"""Ray: pools of actors around any stage, where they run, what happens when one dies."""

import os

# Ray reads its authentication mode once, while it is imported: every import of it comes after this.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
