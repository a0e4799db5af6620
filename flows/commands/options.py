"""Options that several commands share.

Libraries that take seconds to import are imported inside the commands that need them, so that
`--help` and an invalid key answer at once.
"""

from pathlib import Path
from typing import Annotated

import typer

InputUrl = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="Stories as JSONL, CSV, Parquet, YAML or text: file, folder or URL."
    ),
]
OutputUrl = Annotated[str, typer.Option("--output", help="Folder or object-store URL of the job.")]
JobUrl = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="Folder or object-store URL of a job.")
]
ConfigName = Annotated[
    str, typer.Option("--config", help="Name (pocket, sd15, sd21, sdxl) or TOML file.")
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", help="Name (draft, fast, paper, official) or TOML file laid over it."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one value, e.g. films.fps=12; repeatable."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Read only the first N rows.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ServerFile = Annotated[
    Path | None,
    typer.Option(
        "--server",
        help="TOML file with the [server] section; default: the variable STORYREEL_SERVER.",
    ),
]
