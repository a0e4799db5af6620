"""Commands for unattended rendering: serve, submit, schedule."""

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from storyreel.flows.commands.options import (
    AsJson,
    ConfigName,
    InputUrl,
    Limit,
    OutputUrl,
    Overrides,
    Profile,
    ServerFile,
)


def serve(server: ServerFile = None) -> None:
    """Run Prefect with its UI, a worker and the gallery."""
    from storyreel.flows.night.serve import serve as serve_until_stopped
    from storyreel.flows.server.server_config import load_server_config

    serve_until_stopped(load_server_config(server), Console())


def submit(
    input_url: InputUrl,
    output_url: OutputUrl,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    limit: Limit = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, max=100, help="Render N stories first, then wait for approval."
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option("--priority", min=1, max=9, help="From 9 (first) to 1 (last); default 5."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="Hours in which it may run: '22:00-06:00 Europe/Berlin'."),
    ] = None,
    server: ServerFile = None,
    as_json: AsJson = False,
) -> None:
    """Queue a job at a running `storyreel serve`."""
    from storyreel.flows.night.submit import Submission
    from storyreel.flows.night.submit import submit as submit_to
    from storyreel.flows.server.server_config import server_to_talk_to

    submission = Submission(
        input_url=input_url,
        output_url=output_url,
        config_name=config_name,
        profile=profile,
        overrides=tuple(overrides or ()),
        limit=limit,
        sample=sample,
        priority=priority,
        window=window,
    )
    receipt = submit_to(submission, server_to_talk_to(server))
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(receipt)) + "\n")
        return
    console = Console()
    console.print(f"job   {receipt.flow_run_id}", highlight=False)
    console.print(f"watch {receipt.url}", highlight=False, soft_wrap=True)
    if receipt.starts:
        console.print(f"is rendered when its window opens, {receipt.starts}", highlight=False)


def schedule(
    cron: Annotated[str, typer.Option("--cron", help="Start of the nights, such as '0 22 * * *'.")],
    timezone: Annotated[str, typer.Option("--timezone", help="IANA name: Europe/Berlin.")],
    window_end: Annotated[
        str, typer.Option("--window-end", help="Time by which the last unit is finished: 06:00.")
    ],
    server: ServerFile = None,
) -> None:
    """Continue the jobs of a running `storyreel serve` nightly."""
    from storyreel.flows.night.schedule import Nights, schedule_nights
    from storyreel.flows.server.server_config import server_to_talk_to

    nights = Nights(cron=cron, timezone=timezone, window_end=window_end)
    url = schedule_nights(nights, server_to_talk_to(server))
    console = Console()
    console.print(f"every night {nights.window()}: {url}", highlight=False, soft_wrap=True)
    console.print(f"the next one starts {nights.next_start():%Y-%m-%d %H:%M %Z}", highlight=False)
