"""What the README shows runs as written."""

import re
import subprocess

import numpy as np
import pytest
import torch
from pages import FILE, ROOT, Reader, answering, blocks, in_no_time, pretend_cpu
from PIL import Image

from devices.card import load_card
from devices.export.onnx_model import onnx_model, random_weights
from latency import LatencyTable
from search import spaces

README = ROOT / "README.md"


@pytest.fixture
def desk(tmp_path, monkeypatch, at_once):
    """A folder to work in, on a machine whose devices answer from tables."""
    monkeypatch.chdir(tmp_path)
    variants = ({"batch": 8}, {"classes": 10}, {"batch": 8, "classes": 10})
    ops = {op for options in variants for op in spaces.load("proxyless", **options).operators}
    ops |= {*spaces.load("proxyless-cifar").operators}
    for _, text in blocks(README):
        if (named := FILE.match(text)) and "stages" in text:
            (tmp_path / named[1]).write_text(text)
            ops |= {*spaces.load(named[1]).operators}
    pretend_cpu(ops)
    cards = tmp_path / "user-data" / "cards"
    (cards / "gpu.toml").write_text(f"batch = 8\n{answering('gpu', ops)}")
    (cards / "android.toml").write_text(answering("android"))
    space = spaces.load("mini")
    model = onnx_model(space.network(space.largest).ops, random_weights(), "model")
    (tmp_path / "model.onnx").write_bytes(model)
    save_images(tmp_path / "FOLDER")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def save_images(folder):
    """Two images of each of ten classes and part, as files of their own and as those of CIFAR."""
    for number in range(10):
        for part in ("train", "val"):
            where = folder / part / f"class{number}"
            where.mkdir(parents=True)
            for one in "ab":
                Image.new("RGB", (40, 40)).save(where / f"{one}.JPEG")
    labels = np.arange(20, dtype=np.uint8)[:, None] % 10
    rows = np.hstack([labels, np.zeros((20, 3072), np.uint8)])
    for name in (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"):
        rows.tofile(folder / f"{name}.bin")


def test_the_readme_can_be_typed_from_top_to_bottom(desk, capsys):
    def at_hand(text):
        """A board that answers from a table, in place of one in the network."""
        if 'transport = "ssh"' not in text:
            return in_no_time(text)
        (desk / "board.toml").write_text(text)
        assert load_card("board.toml").transport == "ssh"
        return answering("board")

    reader = Reader(edit=at_hand)
    reader.read(README)
    space = spaces.load("mini")
    ms = LatencyTable.load("cpu").predict(space.network(space.largest)).ms
    (printed,) = re.findall(r"^\[([\d.]+)\]$", capsys.readouterr().out, re.MULTILINE)
    assert float(printed) == pytest.approx(ms, rel=1e-4)
    for folder in ("demo", "mini", "small", "mini-trained"):
        assert (desk / "runs" / folder / "model.onnx").exists(), folder
    for report in ("runs/mini/report.html", "mini-and-small.html", "cpu.html"):
        assert (desk / report).exists(), report
    assert {"proxyless-cifar@32", "proxyless@224"} <= {
        said.partition(":")[0] for line, said in reader.said.items() if "FOLDER" in line
    }


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)", README.read_text())
    assert links
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    assert set(links) <= set(tracked.splitlines())


def test_every_target_of_make_that_the_readme_names_exists():
    targets = set(re.findall(r"`?make (\w+)", README.read_text()))
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
