"""Data sets from folders: what is read, what is said of what cannot be, and batches that are a
function of their number whoever makes them."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from latency import LatError, UsageError
from search.data import BatchStream, draw_batch, evaluation_batches, load_dataset
from search.data.batches import worker_processes
from search.data.dataset import held_out
from search.training.optimizer import accuracy

CLASSES = ("cat", "dog", "eel")


def _picture(generator, size=(48, 40)):
    return Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Twelve training images a class, and three to test."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 3)):
        for name in CLASSES:
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                _picture(generator).save(tmp_path / part / name / f"{number}.JPEG")
    return tmp_path


@pytest.fixture
def cifar(tmp_path):
    generator = np.random.default_rng(0)
    for name in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
        rows = generator.integers(0, 256, (40, 3073), np.uint8)
        rows[:, 0] = np.arange(40) % 10
        rows.tofile(tmp_path / name)
    return tmp_path


def test_a_folder_of_images_is_split_in_three_that_share_none(folder):
    data = load_dataset(f"imagenet:{folder}")
    assert data.classes == 3
    assert [len(part) for part in (data.train, data.valid, data.test)] == [33, 3, 9]
    assert not set(data.train.paths) & set(data.valid.paths)
    assert sorted(data.valid.labels.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("words", ["imagenet", "cifar10", "digits"])
def test_a_batch_is_a_function_of_its_number_whoever_makes_it(folder, cifar, words):
    where = {"imagenet": folder, "cifar10": cifar}
    split = load_dataset(f"{words}:{where[words]}" if words in where else words).train
    seed, resolution = (7, 1), 24
    whole = [draw_batch(split, 8, step, seed, resolution) for step in (2, 4, 6)]
    images, labels = whole[0]
    assert images.shape == (8, 3, 24, 24)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(images, whole[1][0])
    stream = BatchStream(split, 8, seed, resolution, workers=2, every=2)
    for step, (expected, its_labels) in zip((2, 4, 6), whole, strict=True):
        read, read_labels = stream.at(step)
        assert torch.equal(read, expected)
        assert torch.equal(read_labels, its_labels)
    again = stream.at(4)  # a resumed run asks for a step out of turn
    assert torch.equal(again[0], whole[1][0])
    parts = [draw_batch(split, 8, 2, seed, resolution, (rank, 2)) for rank in (0, 1)]
    for (part, part_labels), half in zip(parts, (slice(0, 4), slice(4, 8)), strict=True):
        assert torch.equal(part, images[half])
        assert torch.equal(part_labels, labels[half])


def test_a_batch_larger_than_the_split_is_cut_to_equal_parts(digits):
    """359 images for two processes."""
    words = digits.valid, 512, 3, (0,), 8
    parts = [draw_batch(*words, (rank, 2))[1] for rank in (0, 1)]
    assert [len(labels) for labels in parts] == [179, 179]
    assert len(draw_batch(*words)[1]) == 359
    with pytest.raises(UsageError, match="359 images for 400 processes: start fewer"):
        BatchStream(*words[:2], *words[3:], part=(0, 400))


@pytest.mark.parametrize("words", ["imagenet", "cifar10", "digits"])
def test_a_batch_that_is_not_augmented_has_images_as_they_are_evaluated(folder, cifar, words):
    where = {"imagenet": folder, "cifar10": cifar}
    split = load_dataset(f"{words}:{where[words]}" if words in where else words).valid
    size, count = 3, len(split)
    steps = range(count // size)
    batches = [draw_batch(split, size, step, (7,), 24, augment=False) for step in steps]
    labels = torch.cat([labels for _, labels in batches])
    assert len(labels) == count - count % size
    expected, _ = split.evaluated(np.arange(count), 24)
    one = batches[0][0][1]
    assert any(torch.allclose(one, image, atol=1e-5) for image in expected)
    stream = BatchStream(split, size, (7,), 24, augment=False)
    assert torch.equal(stream.at(0)[0], batches[0][0])
    parts = [draw_batch(split, 3, 0, (7,), 24, (rank, 3), augment=False)[0] for rank in range(3)]
    torch.testing.assert_close(torch.cat(parts), batches[0][0])


def test_a_batch_that_is_not_augmented_is_whole_where_images_are_broken(folder):
    split = load_dataset(f"imagenet:{folder}").valid
    broken, other, _ = split.paths
    with open(broken, "wb") as file:
        file.write(b"nothing")
    images, labels = draw_batch(split, 3, 0, (0,), 16, augment=False)
    assert len(images) == len(labels) == 3
    assert list(split.broken) == [broken]
    assert sorted(labels.tolist()) == [1, 1, 2]  # the next one twice
    assert other.count("dog")


def test_the_name_of_a_folder_of_images_tells_other_classes_and_counts(folder, tmp_path_factory):
    name = load_dataset(f"imagenet:{folder}").name
    assert name.startswith(f"{folder.name}-")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / folder.name
    elsewhere.symlink_to(folder)
    assert load_dataset(f"imagenet:{elsewhere}").name == name
    (folder / "train" / "cat" / "0.JPEG").rename(folder / "val" / "cat" / "99.JPEG")
    moved = load_dataset(f"imagenet:{folder}").name
    for part in ("train", "val"):
        (folder / part / "cat").rename(folder / part / "ape")
    renamed = load_dataset(f"imagenet:{folder}").name
    assert len({name, moved, renamed}) == 3


def test_evaluation_sees_every_image_once_in_order(folder):
    data = load_dataset(f"imagenet:{folder}")
    batches = list(evaluation_batches(data.test, 4, 24))
    assert [len(labels) for _, labels in batches] == [4, 4, 1]
    assert torch.cat([labels for _, labels in batches]).tolist() == data.test.labels.tolist()
    again = next(iter(evaluation_batches(data.test, 9, 24)))[0]
    assert torch.equal(torch.cat([images for images, _ in batches]), again)


def test_images_are_normalised_as_those_of_imagenet(folder):
    for path in (folder / "val").rglob("*.JPEG"):
        Image.new("RGB", (30, 30), (255, 0, 51)).save(path, quality=100, subsampling=0)
    ((images, _),) = evaluation_batches(load_dataset(f"imagenet:{folder}").test, 9, 24)
    expected = (torch.tensor([1, 0, 0.2]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    assert torch.allclose(images.mean((0, 2, 3)), expected, atol=0.03)


def test_broken_images_are_left_out_and_told_once(folder, caplog):
    for number in range(6):
        (folder / "train" / "cat" / f"{number}.JPEG").write_bytes(b"\xff\xd8 no image")
    truncated = folder / "train" / "dog" / "0.JPEG"
    truncated.write_bytes(truncated.read_bytes()[:200])
    split = load_dataset(f"imagenet:{folder}").train
    for _ in range(2):
        for step in range(4):
            images, labels = draw_batch(split, 8, step, (0,), 16)
            assert images.shape[0] == len(labels) == 8
    lost = {path for path in split.paths if path.endswith(tuple(f"cat/{n}.JPEG" for n in range(6)))}
    assert lost <= set(split.broken)
    told = [record for record in caplog.records if "broken image left out" in record.message]
    assert len(told) == len(split.broken)


def test_many_broken_images_are_told_by_their_number(folder, caplog):
    for path in (folder / "train" / "cat").iterdir():
        path.write_bytes(b"nothing")
    data = load_dataset(f"imagenet:{folder}")
    for step in range(8):
        draw_batch(data.train, 8, step, (0,), 16)
    assert len(data.broken) == len(data.train.broken) > 10
    assert len(caplog.records) == 10


def test_an_evaluation_leaves_broken_images_out(folder):
    (folder / "val" / "dog" / "1.JPEG").write_bytes(b"nothing")
    test = load_dataset(f"imagenet:{folder}").test
    for workers in (0, 2):
        batches = list(evaluation_batches(test, 4, 24, workers=workers))
        assert torch.cat([labels for _, labels in batches]).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert list(test.broken) == [str(folder / "val" / "dog" / "1.JPEG")]
    assert accuracy(_SaysDog(), test, 24) == 2 / 8
    for path in (folder / "val").rglob("*.JPEG"):
        path.write_bytes(b"nothing")
    with pytest.raises(LatError, match=r"none of 9 images can be evaluated, e\.g\. .*JPEG"):
        list(evaluation_batches(test, 4, 24))


class _SaysDog(torch.nn.Module):
    def forward(self, images):
        return torch.tensor([0.0, 1.0, 0.0]).expand(len(images), 3)


def test_broken_images_met_by_workers_are_told_by_the_main_process(folder, caplog):
    (folder / "train" / "cat" / "3.JPEG").write_bytes(b"")
    split = load_dataset(f"imagenet:{folder}").train
    stream = BatchStream(split, 11, (0,), 16, workers=1)
    for step in range(3):
        stream.at(step)
    broken = [path for path in split.paths if path.endswith("cat/3.JPEG")]
    assert list(split.broken) == broken
    assert len(caplog.records) == len(broken)


def test_where_no_image_can_be_read_it_ends(folder):
    for path in (folder / "train").rglob("*.JPEG"):
        path.write_bytes(b"nothing")
    with pytest.raises(LatError, match="none of 33 images can be read"):
        draw_batch(load_dataset(f"imagenet:{folder}").train, 8, 0, (0,), 16)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("imagenet", "give its folder, e.g. imagenet:FOLDER"),
        ("imagenet:nowhere", "nowhere is not a folder"),
        ("imagnet:x", "did you mean 'imagenet'"),
        ("imagenet:{}/train", "the folder train is missing; expected train/CLASS"),
        ("cifar10:{}", "data_batch_1.bin is missing"),
    ],
)
def test_folders_that_cannot_be_are_named(folder, words, said):
    with pytest.raises(UsageError, match=said):
        load_dataset(words.format(folder))


def test_classes_that_differ_are_named(folder):
    (folder / "val" / "eel").rename(folder / "val" / "elk")
    with pytest.raises(UsageError, match="2 are in one of them only: eel, elk"):
        load_dataset(f"imagenet:{folder}")
    (folder / "val" / "elk").rename(folder / "val" / "eel")
    (folder / "train" / "fox").mkdir()
    with pytest.raises(UsageError, match="fox: no images"):
        load_dataset(f"imagenet:{folder}")


def test_cifar_holds_a_tenth_of_its_training_images_out(cifar):
    data = load_dataset(f"cifar10:{cifar}")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [180, 20, 40]
    assert sorted(set(data.valid.labels.tolist())) == list(range(10))
    ((images, _),) = evaluation_batches(data.test, 40, 32)
    raw = np.fromfile(cifar / "test_batch.bin", np.uint8).reshape(-1, 3073)[:, 1:]
    red = (raw[3, :1024].reshape(32, 32) / 255 - 0.4914) / 0.2470
    np.testing.assert_allclose(images[3, 0], red, rtol=1e-4, atol=1e-5)
    augmented, _ = draw_batch(data.train, 30, 0, (0,), 32)
    grey = (augmented == 0).all(1).flatten(1).sum(1)
    assert (grey >= 64).all()  # a quarter of a cut-out square at least, wherever it lies


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "bytes are not a multiple of 3073"),
        (lambda content: b"", "bytes are not a multiple of 3073"),
        (lambda content: b"\x0c" + content[1:], "has the label 12; there are 10"),
    ],
)
def test_broken_cifar_files_are_named(cifar, damage, said):
    path = cifar / "data_batch_2.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LatError, match=f"data_batch_2.bin: .*{said}"):
        load_dataset(f"cifar10:{cifar}")


def test_what_is_held_out_is_exactly_as_many_in_proportion_and_never_all_of_a_class():
    sizes = np.random.default_rng(0).integers(732, 1301, 1000)  # as the classes of ImageNet
    labels = np.repeat(np.arange(1000), sizes)
    left, out = held_out(labels, 50_000)
    assert len(out) == 50_000
    assert sorted([*left, *out]) == list(range(len(labels)))
    shares = np.bincount(labels[out]) / sizes
    np.testing.assert_allclose(shares, 50_000 / len(labels), atol=1 / 732)
    left, out = held_out(np.array([0, 0, 0, 0, 0, 1, 1, 2]), 1)
    assert len(out) == 2  # one of each class that has another
    assert 7 in left


def test_hidden_files_are_not_seen_and_links_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "fox"
    (folder / "train" / "cat").rename(elsewhere)
    (folder / "train" / "cat").symlink_to(elsewhere)
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "dog" / "._0.JPEG").write_bytes(b"of a file system")
    (folder / "train" / "dog" / "gone.JPEG").symlink_to(folder / "nowhere")
    data = load_dataset(f"imagenet:{folder}")
    assert data.classes == 3
    assert len(data.train) + len(data.valid) == 37
    for step in range(4):
        draw_batch(data.train, 8, step, (0,), 16)
        draw_batch(data.valid, 3, step, (0,), 16)
    assert [path[-9:] for path in data.broken] == ["gone.JPEG"]


def test_one_image_a_class_leaves_none_to_hold_out(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "cat").mkdir(parents=True)
        _picture(np.random.default_rng(0)).save(tmp_path / part / "cat" / "0.png")
    with pytest.raises(UsageError, match="none to hold out"):
        load_dataset(f"imagenet:{tmp_path}")


def test_a_stream_that_was_closed_goes_on_where_it_is_asked_to(folder):
    split = load_dataset(f"imagenet:{folder}").train
    stream = BatchStream(split, 8, (0,), 16, workers=1)
    first = stream.at(0)[0]
    stream.close()
    assert torch.equal(stream.at(0)[0], first)


def test_no_more_processes_read_ahead_than_there_are_cpus_for_them():
    assert [worker_processes(asked, cpus=8, ranks=1) for asked in (0, 3, 10_000)] == [0, 3, 8]
    assert worker_processes(10_000, cpus=8, ranks=4) == 2
    assert worker_processes(10_000, cpus=2, ranks=4) == 1
    assert worker_processes(10**9) <= os.cpu_count()


def test_cifar_files_are_no_larger_than_they_are(cifar):
    path = cifar / "test_batch.bin"
    with path.open("r+b") as file:
        file.truncate(10_001 * 3073)
    with pytest.raises(LatError, match=r"test_batch\.bin: larger than 30\.73 MB"):
        load_dataset(f"cifar10:{cifar}")


def test_an_image_of_more_pixels_than_fit_is_a_broken_image(folder):
    path = folder / "val" / "dog" / "0.JPEG"
    Image.new("1", (10_000, 10_001)).save(path, "PNG")
    test = load_dataset(f"imagenet:{folder}").test
    assert sum(len(labels) for _, labels in evaluation_batches(test, 9, 8)) == 8
    assert test.broken == {str(path): "more than 100000000 pixels"}


def test_a_pipe_or_a_device_among_the_images_is_a_broken_image(folder):
    named = [folder / "val" / name / "0.JPEG" for name in CLASSES]
    for path in named:
        path.unlink()
    os.mkfifo(named[0])
    named[1].symlink_to("/dev/zero")
    named[2].mkdir()
    test = load_dataset(f"imagenet:{folder}").test
    assert sum(len(labels) for _, labels in evaluation_batches(test, 9, 8)) == 6
    said = [test.broken[str(path)] for path in named]
    assert all("not a regular file" in one for one in said[:2])
    assert "directory" in said[2]


@pytest.mark.parametrize(
    "error", [MemoryError, RuntimeError("two\nlines"), EOFError, KeyError("x")]
)
def test_whatever_a_decoder_raises_the_image_is_broken(folder, monkeypatch, error):
    def decode(*_):
        raise error

    Image.init()  # a decoder that is loaded later would take the place of this one
    monkeypatch.setitem(Image.OPEN, "PNG", (decode, lambda start: start.startswith(b"\x89PNG")))
    path = folder / "val" / "cat" / "0.JPEG"
    path.write_bytes(b"\x89PNG" + bytes(100))
    test = load_dataset(f"imagenet:{folder}").test
    assert sum(len(labels) for _, labels in evaluation_batches(test, 9, 8)) == 8
    assert test.broken[str(path)] in ("MemoryError", "two lines", "EOFError", "'x'")


@pytest.mark.parametrize("form", ["EPS", "GIF", "TIFF", "ICO", "PDF"])
def test_files_of_other_formats_are_broken_whatever_they_are_named(folder, form):
    path = folder / "val" / "cat" / "0.JPEG"
    _picture(np.random.default_rng(0)).save(path, form)
    test = load_dataset(f"imagenet:{folder}").test
    assert sum(len(labels) for _, labels in evaluation_batches(test, 9, 8)) == 8
    assert "cannot identify image file" in test.broken[str(path)]
