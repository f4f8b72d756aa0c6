"""Tables of ours and of others, and networks in JSON."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from fuzzing.damage import WORDS, YAML_VALUES, reassigned, relined, revalued, reworded
from fuzzing.target import Target, one_file
from latency import LatencyTable, NetworkSpec, fit, zoo
from latency.exchange.tables import export_table, import_table
from latency.tables.library import shipped_folder
from search.report import table_page, write_page


def small_table(folder: Path) -> Path:
    """A table of a few kernels, one space of it transferred."""
    shipped = LatencyTable.load(next(shipped_folder().glob("*onnxruntime*.csv")))
    inside = [op for op, row in shipped.rows.items() if row.is_inside]
    rows = {op: shipped.rows[op] for op in inside[:: len(inside) // 60]}
    space, *_ = shipped.validations
    transfers = {space: "from another; 3 networks measured"}
    path = folder / "table.csv"
    replace(shipped, rows=rows, in_network_ms={}, transfers=transfers).save(path)
    return path


def table(folder: Path) -> Target:
    """A table as commands read it; now and then its report."""
    path = small_table(folder)
    changes = (reworded, reworded, relined, reassigned(WORDS))
    return one_file(path, partial(_read_table, path), *changes)


def _read_table(path: Path, generator: Random) -> None:
    read = LatencyTable.load(path)
    for space in {*read.validations, *read.transfers}:
        read.stated_error(space)
    fit(read).missing(read)
    read.save(path.with_name("copy.csv"))
    LatencyTable.load(path.with_name("copy.csv"))
    if generator.random() < 0.02:
        write_page(table_page(read), path.with_suffix(".html"))


def published(folder: Path) -> Target:
    """A table in the YAML of ProxylessNAS."""
    shipped = LatencyTable.load(next(shipped_folder().glob("*onnxruntime*.csv")))
    path = folder / "table.yaml"
    export_table(shipped, "proxylessnas", path, partial=True)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: 4 * 40]))

    def read(generator: Random) -> None:
        format = generator.choice(["proxylessnas", "proxylessnas", "ofa"])
        import_table(path, format, "phone").save(folder / "imported.csv")
        LatencyTable.load(folder / "imported.csv")

    sound = partial(import_table, path, "proxylessnas", "phone")
    sound()
    return one_file(path, read, reworded, relined, reassigned(YAML_VALUES))


def network(folder: Path) -> Target:
    """A network in JSON, predicted."""
    path = folder / "network.json"
    path.write_text(zoo.load("mobilenet_v2").to_json())
    model = fit(LatencyTable.load(small_table(folder)), extrapolate=True)

    def read(generator: Random) -> None:
        found = NetworkSpec.load(path)
        assert found.macs + found.params + found.parts[0].bytes > 0
        model.predict(found)

    return one_file(path, read, reworded, revalued)
