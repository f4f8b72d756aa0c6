"""What the README shows runs as written."""

import re
from pathlib import Path

from devices.card import load_card
from devices.card_names import known_cards
from latency import LatencyTable, Measurement, Setting, machine
from search import spaces

README = Path(__file__).parent.parent / "README.md"


def test_the_library_example_runs(tmp_path, capsys, own_data_folder):
    rows = {op: Measurement(0.01, 0.0001, 50, 0.01) for op in spaces.load("mini").operators}
    setting = Setting("cpu", machine.hardware(), runtime="onnxruntime 1")
    LatencyTable(setting, rows).save(tmp_path / "user-data" / "mine.csv")
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    # Two operators before the blocks, nine blocks, three after them.
    assert capsys.readouterr().out.strip() == "[0.14]"


def test_every_command_that_the_readme_names_exists():
    text = README.read_text()
    scripts = set(re.findall(r"^(lat-\w+)", text, re.MULTILINE))
    declared = (README.parent / "pyproject.toml").read_text()
    assert scripts
    assert all(f"{script} = " in declared for script in scripts)
    targets = set(re.findall(r"`?make (\w+)", text))
    makefile = (README.parent / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_card_that_the_readme_shows_is_valid(tmp_path):
    cards = re.findall(r"```toml\n# (\w+\.toml)\n(.*?)```", README.read_text(), re.DOTALL)
    assert cards
    for name, text in cards:
        (tmp_path / name).write_text(text)
        assert load_card(str(tmp_path / name)).transport == "ssh"


def test_every_target_and_device_that_the_readme_names_is_known():
    words = r"^lat-(?:profile|search|predict) .*?--(?:device|target) ([\w-]+)(?= |$)"
    named = set(re.findall(words, README.read_text(), re.MULTILINE))
    assert {"cpu", "gpu", "android"} <= named
    assert named <= set(known_cards())
