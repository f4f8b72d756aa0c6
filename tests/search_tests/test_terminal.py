"""What all commands do alike on a terminal and off it: common options, errors, colours, widths."""

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.progress import Progress as Bar
from rich.table import Table
from saved_runs import save_run

from devices.measuring.rounds import Progress
from latency import LatencyTable, candidate_latency
from latency.errors import DeviceError, LatError
from search import console, spaces
from search.commands.compare_command import main as lat_compare
from search.commands.predict_command import main as lat_predict
from search.commands.printing import print_range, print_result
from search.commands.profile_command import main as lat_profile
from search.commands.search_command import main as lat_search
from search.commands.table_command import COMMANDS
from search.commands.table_command import main as lat_table
from search.console import (
    following,
    in_one_line,
    notice,
    print_table,
    progress_bar,
    run,
    version,
)
from search.result import BudgetOutcome, SearchResult
from search.shown_text import PlainConsole

pytestmark = pytest.mark.identity
SCRIPTS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
    "scripts"
]
COLOUR = re.compile(r"\x1b\[[\d;]*3\d")


def command_line(script: str, *words) -> list[str]:
    """The words that run a command of this tree as its installed script would."""
    module, main = SCRIPTS[script].split(":")
    code = f"import sys; from {module} import {main}; sys.argv[0] = {script!r}; {main}()"
    return [sys.executable, "-c", code, *map(str, words)]


def on_a_terminal(command: list[str], **environment: str) -> str:
    """What a command writes on a terminal of its own."""
    ours, its = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=env) as process:
        os.close(its)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            written += piece
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


@pytest.fixture
def failing(invoke):
    """Run a command that fails with an error; its exit code, output and errors."""

    def call(error, *words):
        def command() -> None:
            raise error

        return invoke(lambda: run(command, "lat-fail"), *words)

    return call


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_tells_its_version_and_its_common_options(script):
    done = subprocess.run(command_line(script, "--version"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"lat-search {version()}\n")
    words = ["show", "--help"] if script == "lat-table" else ["--help"]
    done = subprocess.run(command_line(script, *words), capture_output=True, text=True)
    for option in ("--verbose", "-v", "--debug", "--version", "--help"):
        assert option in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("words", [*SCRIPTS, *(f"lat-table {word}" for word in COMMANDS)])
def test_no_help_cuts_a_word_in_80_columns(words, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    script, *more = words.split()
    module, main = SCRIPTS[script].split(":")
    code, out, _ = invoke(getattr(import_module(module), main), *more, "--help")
    assert (code, "…" in out) == (0, False)


def test_a_subcommand_has_the_options_of_all_commands(invoke):
    code, out, err = invoke(lat_table, "show", "nothing.csv", "--debug")
    assert (code, out) == (2, "")
    assert err.startswith("Traceback")
    assert err.endswith("lat-table show: nothing.csv: no such table file")


@pytest.mark.parametrize("name", ["nothing.onnx", "nothing.json", "folder.onnx"])
def test_a_file_that_is_not_there_is_the_users_word(invoke, name):
    Path("folder.onnx").mkdir()
    code, out, err = invoke(lat_predict, name)
    assert (code, out) == (2, "")
    assert err.startswith(f"lat-predict: {name}: ")


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (lat_predict, ["nothing.onnx"], "nothing.onnx: No such file"),
        (lat_predict, ["broken.onnx"], "broken.onnx: not an ONNX file"),
        (lat_predict, ["broken.json"], "broken.json: not a network in JSON"),
        (lat_predict, ["pipe.onnx"], "pipe.onnx: not a regular file"),
        (lat_predict, ["zoo:nothing"], "unknown network 'nothing'"),
        (lat_predict, ["zoo:resnet18", "--input-shape", "x"], "--input-shape x: must be sizes"),
        (lat_compare, ["zoo:resnet18", "nothing.onnx"], "nothing.onnx: No such file"),
        (lat_compare, ["broken.onnx"], "broken.onnx: not an ONNX file"),
        (lat_compare, ["--against", "broken.json"], "broken.json: not a network in JSON"),
        (lat_search, ["--budget", "5ms", "--space", "nothing.toml"], "nothing.toml: No such"),
        (lat_search, ["--budget", "5ms", "--settings", "nothing.toml"], "nothing.toml: No such"),
        (lat_search, ["--budget", "5ms", "--from", "folder"], "folder/checkpoint/search.pt: no "),
    ],
)
def test_the_users_file_is_read_before_the_target_is_looked_for(invoke, command, words, said):
    Path("folder").mkdir()
    Path("broken.onnx").write_text("nonsense")
    Path("broken.json").write_text("nonsense")
    os.mkfifo("pipe.onnx")
    code, out, err = invoke(command, *words, "--target", "absent.csv")
    assert (code, out) == (1 if "broken" in said else 2, "")
    assert err.partition(": ")[2].startswith(said)
    assert "absent.csv" not in err


def test_a_table_to_predict_from_is_read_before_a_device_is_reached(invoke):
    Path("far.toml").write_text("transport = 'ssh'\n[ssh]\nhost = 'nowhere.invalid'\n")
    words = ["--device", "far.toml", "--few-shot", "5", "--from", "nothing.csv"]
    assert invoke(lat_profile, *words) == (2, "", "lat-profile: nothing.csv: no such table file")


def test_debug_shows_where_an_error_arose_and_then_the_same_line(failing):
    code, out, err = failing(DeviceError("the cable is cut"))
    assert (code, out, err) == (1, "", "lat-fail: the cable is cut")
    code, out, err = failing(DeviceError("the cable is cut"), "--debug")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback")
    assert err.endswith("lat-fail: the cable is cut")


def test_an_internal_error_is_one_line_that_says_how_to_see_the_traceback(failing):
    message = "lat-fail: internal error: ZeroDivisionError: division by zero"
    told = (1, "", f"{message}; --debug shows the traceback")
    assert failing(ZeroDivisionError("division by zero")) == told


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "t.csv"), "t.csv: Permission denied"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_what_the_system_refuses_is_one_line(failing, error, said):
    assert failing(error) == (1, "", f"lat-fail: {said}")


def test_an_interrupted_command_that_can_go_on_says_how(invoke):
    def command(resume: bool = False) -> None:
        raise KeyboardInterrupt

    code, _, err = invoke(lambda: run(command, "lat-long"))
    assert (code, err) == (
        1,
        "lat-long: interrupted; the same command with --resume continues from here",
    )


def test_verbose_says_what_is_done_on_standard_error_and_quiet_is_the_default(invoke, mini_csv):
    card = f"transport = 'replay'\n[replay]\ntable = '{mini_csv}'\n"
    Path("replayed.toml").write_text(card)
    words = ["--device", "replayed.toml", "--space", "mini", "--out", "o", "--json"]
    code, quiet, err = invoke(lat_profile, *words)
    assert (code, err) == (0, "")
    code, loud, err = invoke(lat_profile, *words, "-v")
    assert code == 0
    assert "session 1, 69 to measure" in err
    assert json.loads(loud).keys() == json.loads(quiet).keys()


def test_colour_is_for_terminals_and_NO_COLOR_is_respected():  # noqa: N802
    command = command_line("lat-table", "--help")
    assert COLOUR.search(on_a_terminal(command, NO_COLOR=""))
    assert not COLOUR.search(on_a_terminal(command, NO_COLOR="1"))
    assert "\x1b" not in subprocess.run(command, capture_output=True, text=True).stdout


def test_an_error_is_one_line_whose_beginning_and_end_are_shown():
    assert in_one_line(LatError("a.csv:3:\n  no\tnumber")) == "a.csv:3: no number"
    said = in_one_line(LatError(f"a.onnx: node {'x' * 99_999}: write another"))
    assert said.startswith("a.onnx: node xxx")
    assert said.endswith("xxx: write another")
    assert len(said) < 1500


def test_a_reader_that_goes_away_is_no_error(mini_csv):
    command = command_line("lat-table", "show", mini_csv, "--rows", "41")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("script", "typed", "offered"),
    [
        ("lat-profile", "--device cp", {"cpu", "cpu-litert", "cpu-torch"}),
        ("lat-search", "--space mi", {"mini", "mini-tree"}),
        ("lat-predict", "--target gp", {"gpu"}),
        ("lat-table", "im", {"import"}),
        ("lat-table", "show --ro", {"--rows"}),
    ],
)
def test_the_shell_completes_commands_options_and_names(script, typed, offered):
    variable = f"_{script.upper().replace('-', '_')}_COMPLETE"
    asked = {
        variable: "complete_bash",
        "COMP_WORDS": f"{script} {typed}",
        "COMP_CWORD": str(len(typed.split())),
    }
    done = subprocess.run(
        command_line(script), env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert set(done.stdout.split()) == offered, done.stderr


HOSTILE = "\x1b]0;title\x07\x1b[31m\x9b2J\u202e\udcff[red]bold[/] :smile: name"
SHOWN = r"\x1b]0;title\x07\x1b[31m\x9b2J\u202e\udcff[red]bold[/] :smile: name"


@pytest.mark.parametrize("printed", ["print", "cell", "title", "notice", "error", "progress"])
def test_what_a_file_names_is_shown_and_never_obeyed(invoke, monkeypatch, printed):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(console, "notices", PlainConsole(stderr=True, force_terminal=True))

    def command() -> None:
        table = Table("network", title=HOSTILE if printed == "title" else None)
        table.add_row(HOSTILE if printed == "cell" else "x" * 120)
        print_table(table)
        if printed == "print":
            print(HOSTILE)
        elif printed == "notice":
            notice(HOSTILE)
        elif printed == "progress":
            with progress_bar() as bar:
                bar.add_task(HOSTILE, total=1)
        elif printed == "error":
            raise DeviceError(HOSTILE + "\nanother line")

    _, out, err = invoke(lambda: run(command, "lat-hostile"))
    said = out if printed in ("print", "cell", "title") else re.sub(r"\x1b\[[\d;?]*\w", "", err)
    assert (SHOWN[:12] if printed == "progress" else SHOWN) in said
    assert not re.search("[\x07\x9b\u202e]|\x1b\\]", out + err)
    assert "\x1b" not in out
    if printed == "error":
        assert err.strip().count("\n") == 0


def test_names_of_a_network_and_of_a_table_are_shown(invoke, mini_csv):
    space = spaces.load("mini")
    network = space.network(space.largest, HOSTILE)
    Path("n.json").write_text(network.to_json())
    code, out, err = invoke(lat_predict, "n.json", "--target", mini_csv)
    assert code == 0, err
    assert f"{SHOWN} on " in out
    assert "\x1b" not in out
    text = Path(mini_csv).read_text().replace("# hardware: ", f"# hardware: {HOSTILE[:19]}", 1)
    Path("hostile.csv").write_text(text)
    code, out, err = invoke(lat_table, "show", "hostile.csv")
    assert code == 0, err
    assert r"\x1b]0;title\x07" in out
    assert "\x1b" not in out


def test_the_list_of_cards_fits_80_columns(invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = invoke(lat_profile, "--list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80


def test_a_long_name_in_a_table_goes_on_below(invoke, toy_table, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    toy_table.save(tmp_path / "toy.csv")
    code, out, _ = invoke(lat_table, "show", "toy.csv", "--rows", "1")
    assert code == 0
    rows = out.partition("slowest")[2]
    assert max(map(len, rows.splitlines())) <= 40
    assert "…" not in rows


@pytest.mark.parametrize(("blocks", "told"), [(1, "6 networks"), (9, "2.5e+7 networks")])
def test_the_number_of_networks_is_spelled_out_where_it_is_small(capsys, mini_csv, blocks, told):
    space = spaces.load("mini")
    costs = candidate_latency(LatencyTable.load(mini_csv), space.blocks, space.fixed)
    print_range(costs, replace(space, blocks=space.blocks[:blocks]), as_json=False)
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(("measured", "is_said"), [(1.05, False), (1.5, True), (0.6, True)])
def test_a_measurement_that_differs_from_the_prediction_is_told(
    capsys, tmp_path, mini_csv, measured, is_said
):
    told = json.loads((save_run(tmp_path / "run", mini_csv) / "result.json").read_text())
    prediction = {"predicted": 1.0, "predicted_low": 0.9, "predicted_high": 1.1}
    ends = {"measured_low": measured - 0.1, "measured_high": measured + 0.1}
    words = {**told["budgets"][0], **prediction, "measured": measured, **ends}
    own = {"budgets": [BudgetOutcome(**words)], "candidates": [], "baselines": []}
    result = SearchResult(**{**told, **own})
    print_result(result, tmp_path / "run", as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert ("still accurate: lat-profile --verify" in out) == is_said


def test_time_left_is_told_while_more_turns_out_to_be_needed():
    clock = [0.0]
    bar = Bar(get_time=lambda: clock[0], disable=True)
    show = following(bar)
    for done in range(1, 20):
        clock[0] += 1.0
        left = 0 if done == 9 else 30 - done % 3
        show(Progress(done, done + left, "measuring"))
    assert bar.tasks[0].time_remaining == pytest.approx(29, abs=1)
    assert not bar.finished


def test_an_error_names_the_options_of_the_command_in_place_of_parameters(invoke):
    def command(
        sources: Annotated[str, typer.Option("--from")] = "",
        only_list: Annotated[bool, typer.Option("--list/--no-list")] = False,
        input_shape: str = "",
    ) -> None:
        raise LatError("give `sources` or `only_list`, not `input_shape`; see column `note`")

    code, _, err = invoke(lambda: run(command, "lat-test"))
    assert code == 1
    assert err == "lat-test: give --from or --list, not --input-shape; see column `note`"
