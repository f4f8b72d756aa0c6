"""The options of `lat-profile`."""

from pathlib import Path
from typing import Annotated

import typer

from devices.cards import known_cards
from search import spaces

Device = Annotated[
    str, typer.Option(help="Name or path of a device card.", autocompletion=known_cards)
]
Spaces = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        help=f"Space to measure: {', '.join(spaces.known())}, or a file. Repeatable.",
        autocompletion=spaces.known,
    ),
]
Resolution = Annotated[
    int | None, typer.Option(help="Input resolution; by default the space's own.")
]
Width = Annotated[float, typer.Option(help="Width multiplier of the space.")]
Classes = Annotated[int | None, typer.Option(help="Number of classes; by default the space's own.")]
Out = Annotated[
    Path | None, typer.Option(help="Table to write or to verify, or the folder that it is in.")
]
Suite = Annotated[
    str | None,
    typer.Option(help="Measure 'kernels': what CNNs of any kind are made of, for lat-predict."),
]
Resume = Annotated[bool, typer.Option(help="Continue a run that was interrupted.")]
FewShot = Annotated[
    int | None,
    typer.Option(
        "--few-shot", help="Measure this number of networks only (10, say), and predict the rest."
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option("--from", help="With --few-shot: a table to predict from; repeatable."),
]
OnlyList = Annotated[
    bool, typer.Option("--list", help="Show the cards, their devices and their tables.")
]
OnlyCheck = Annotated[bool, typer.Option("--check", help="Try everything except the measuring.")]
OnlyVerify = Annotated[
    bool, typer.Option("--verify", help="Measure a random tenth of the table again.")
]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]
