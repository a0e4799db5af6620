"""Prefect's API and UI for the pages of this server alone: a process of `storyreel serve`."""

import uvicorn
from prefect.server.api.server import create_app

from storyreel.flows.server.own_origin import OwnOriginOnly
from storyreel.flows.server.server_config import load_server_config


def main() -> None:
    """Serve until SIGINT or SIGTERM, as the file named by `STORYREEL_SERVER` says."""
    config = load_server_config()
    app = OwnOriginOnly(create_app(final=True), config.host_names)
    uvicorn.run(app, host=config.host, port=config.port, log_level="error")


if __name__ == "__main__":
    main()
