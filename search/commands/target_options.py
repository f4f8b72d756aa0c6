"""Options of the commands that predict or measure networks on a target."""

from typing import Annotated

import typer

from search.jobs.target_names import known_targets

Target = Annotated[
    str,
    typer.Option(help="Device card, table, or path to either.", autocompletion=known_targets),
]
Extrapolate = Annotated[
    bool,
    typer.Option(
        "--extrapolate", help="Predict operators far from all that the table covers, too."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]
