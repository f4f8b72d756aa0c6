"""The folder of a run: what a run that replaces another one leaves, however it ends."""

from pathlib import Path

import pytest

from latency import LatError
from search.commands.search_command import main as lat_search
from search.run_files import RUN_FILES
from search.runs.folder import require_free, run_folder


def fill(folder: Path, text: str) -> None:
    for name in ("checkpoint", "pareto"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x").write_text(text)
    for name in ("result.json", "network.json") if text == "old" else ("result.json", "model.npz"):
        (folder / name).write_text(text)


def contents(folder: Path) -> str:
    """Who wrote what a run's files are: "old" or "new" where all are of that run."""
    files = [path for name in RUN_FILES for path in (folder / name, folder / name / "x")]
    found = {path.name: path.read_text() for path in files if path.is_file()}
    whole = {"old": {"x", "result.json", "network.json"}, "new": {"x", "result.json", "model.npz"}}
    (who,) = {*found.values()} or {"nobody"}
    return who if found.keys() == whole.get(who) else f"part of {who}"


@pytest.fixture
def occupied(tmp_path) -> Path:
    fill(tmp_path / "run", "old")
    (tmp_path / "run" / "checkpoint" / "search.pt").write_bytes(b"trained for hours")
    return tmp_path / "run"


def _fail(folder: Path, error: type[BaseException], left: str) -> None:
    """A run in place of another one, which leaves something and ends with an error."""
    with run_folder(folder, resume=False, overwrite=True) as place:
        (place / left).mkdir()
        (place / left / "x").write_text("new")
        raise error


def test_a_run_that_fails_leaves_the_one_that_it_was_to_replace(occupied):
    with pytest.raises(ZeroDivisionError):
        _fail(occupied, ZeroDivisionError, "tensorboard")
    assert sorted(path.name for path in occupied.iterdir()) == [
        *(".lock", "checkpoint", "network.json", "pareto", "result.json"),
    ]
    assert (occupied / "result.json").read_text() == "old"


def test_a_run_that_fails_after_a_checkpoint_is_resumed_and_replaces_the_old_one(occupied):
    with pytest.raises(KeyboardInterrupt):
        _fail(occupied, KeyboardInterrupt, "checkpoint")
    assert contents(occupied / ".old-run") == "old"
    with run_folder(occupied, resume=True, overwrite=False) as place:
        assert (place / "checkpoint" / "x").read_text() == "new"
        (place / "result.json").write_text("new")
    assert (occupied / "result.json").read_text() == "new"
    assert not (occupied / "checkpoint" / "search.pt").exists()
    assert not (occupied / "network.json").exists()
    assert not (occupied / ".old-run").exists()


def test_a_run_that_is_overwritten_before_it_ended_leaves_the_one_before(occupied):
    with pytest.raises(KeyboardInterrupt):
        _fail(occupied, KeyboardInterrupt, "checkpoint")
    with pytest.raises(ZeroDivisionError):
        _fail(occupied, ZeroDivisionError, "tensorboard")
    assert contents(occupied) == "old"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "nowhere"], "no such checkpoint"),
        (["--from", "run"], "run is read from the run in run, which would be overwritten"),
        (["--from", "../{here}/run"], "which would be overwritten"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--seed", str(2**64)], "Invalid value for '--seed'"),
        (["--learning-rate", "1e300"], "--learning-rate: should be less than or equal to 1"),
        (["--learning-rate", "nan"], "--learning-rate: should be a finite number, not nan"),
        (["--steps", str(10**12)], "Invalid value for '--steps'"),
        (
            ["--train-steps", str(10**12)],
            "--train-steps: should be less than or equal to 1000000000",
        ),
        (["--batch-size", str(10**9)], "--batch-size: should be less than or equal to 65536"),
        (["--norm-batch", str(10**9)], "--norm-batch: should be less than or equal to 65536"),
        (["--baselines", str(10**9)], "Invalid value for '--baselines'"),
        (["--sigmas", "nan"], "--sigmas nan: must be from 0 to 100"),
        (["--sigmas", "1e300"], "--sigmas 1e+300: must be from 0 to 100"),
        (["--width", "1e300"], "--width 1e+300: must be a positive number"),
        (["--resolution", "0"], "--resolution 0: must be a number from 1 to 8192"),
        (["--resolution", str(10**9)], "--resolution 1000000000: must be a number from 1 to 8192"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_costs_no_run(
    invoke, mini_csv, tmp_path, occupied, words, said
):
    before = {path: path.read_bytes() for path in occupied.rglob("*") if path.is_file()}
    words = [word.format(here=tmp_path.name) for word in words]
    words = [*words, "--target", mini_csv, "--space", "mini", "--budget", "400us"]
    code, out, err = invoke(lat_search, *words, "--out", "run", "--overwrite")
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    after = {path: path.read_bytes() for path in occupied.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before


@pytest.mark.parametrize("name", ["run", "run/network.json", "run/pareto/x"])
def test_what_is_retrained_is_not_replaced(invoke, occupied, name):
    code, _, err = invoke(lat_search, "--retrain", name, "--out", "run", "--overwrite")
    assert code == 2
    assert f"{name} is read from the run in run" in err
    assert contents(occupied) == "old"
    require_free(occupied, resume=False, overwrite=True, reads=occupied.parent / "other")
    require_free(occupied, resume=True, overwrite=False, reads=occupied)


def test_the_usual_folder_of_a_search_is_refused_as_early(invoke, mini_csv, tmp_path):
    fill(tmp_path / "runs" / "far-away-mini-0.4ms", "old")
    missing = ["--resolution", "48"]
    words = ["--target", mini_csv, "--space", "mini", *missing, "--budget", "400us"]
    code, _, err = invoke(lat_search, *words)
    assert code == 2
    assert "far-away-mini-0.4ms holds another run" in err


def test_a_folder_that_is_taken_is_refused_before_anything_is_measured(invoke, mini_csv, occupied):
    lacking = ["--resolution", "48"]  # what the table lacks is measured, or said, later
    words = ["--target", mini_csv, "--space", "mini", *lacking, "--budget", "400us"]
    code, _, err = invoke(lat_search, *words, "--out", "run")
    assert code == 2
    assert "run holds another run (checkpoint)" in err


def test_the_usual_folder_that_is_taken_is_refused_before_anything_is_measured(
    invoke, mini_csv, occupied
):
    usual = Path("runs") / "far-away-mini-0.4ms"
    usual.parent.mkdir()
    occupied.rename(usual)
    lacking = ["--resolution", "48"]
    words = ["--target", mini_csv, "--space", "mini", *lacking, "--budget", "400us"]
    code, _, err = invoke(lat_search, *words)
    assert code == 2
    assert f"{usual} holds another run (checkpoint)" in err
    code, _, err = invoke(lat_search, *words, "--range")
    assert "missing from" in err  # which needs no folder


@pytest.mark.parametrize("given", [["--out", "runs/far-away-mini-0.4ms"], []])
def test_a_folder_that_a_search_is_running_in_is_refused_before_anything_is_measured(
    invoke, mini_csv, tmp_path, given
):
    lacking = ["--resolution", "48"]
    words = ["--target", mini_csv, "--space", "mini", *lacking, "--budget", "400us"]
    usual = tmp_path / "runs" / "far-away-mini-0.4ms"
    with run_folder(usual, resume=False, overwrite=False):
        code, _, err = invoke(lat_search, *words, *given)
    assert code == 2
    assert "another search is running in it" in err


def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured_and_none_is_made(
    invoke, mini_csv, tmp_path
):
    (tmp_path / "file").write_text("dear")
    lacking = ["--resolution", "48"]
    words = ["--target", mini_csv, "--space", "mini", *lacking, "--budget", "400us"]
    code, _, err = invoke(lat_search, *words, "--out", "file/run")
    assert code == 2
    assert "file/run: cannot be written to" in err
    code, _, err = invoke(lat_search, *words, "--out", "new/run")
    assert "missing from" in err
    assert not (tmp_path / "new").exists()


def test_the_lock_follows_no_link_and_waits_for_no_pipe(tmp_path):
    (tmp_path / "dear.txt").write_text("dear")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / ".lock").symlink_to(tmp_path / "dear.txt")
    with (
        pytest.raises(LatError, match="is a symbolic link"),
        run_folder(tmp_path / "a", resume=False, overwrite=False),
    ):
        pass
    assert (tmp_path / "dear.txt").read_text() == "dear"
    (tmp_path / "b" / ".lock").write_text("kept")
    with run_folder(tmp_path / "b", resume=False, overwrite=False):
        assert (tmp_path / "b" / ".lock").read_text() == "kept"
