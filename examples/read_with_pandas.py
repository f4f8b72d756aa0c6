"""Read a latency table with pandas alone, without lat-search, and add up a network's latency.

python read_with_pandas.py TABLE.csv
"""

import sys

import pandas as pd

COLUMNS = ("kind", "height", "width", "in_channels", "out_channels", "kernel", "stride")
COLUMNS += ("expansion", "activation")
DEFAULTS = {"squeeze_excite": 0, "groups": 1, "dilation": 1, "batch": 1}
NETWORK = [
    ("conv", 32, 32, 3, 16, 3, 2, 1, "relu6"),
    ("mbconv", 16, 16, 16, 16, 3, 1, 1, "relu6"),
    ("mbconv", 16, 16, 16, 24, 5, 1, 3, "relu6"),
    ("mbconv", 16, 16, 24, 24, 3, 1, 6, "relu6"),
    ("mbconv", 16, 16, 24, 40, 3, 2, 6, "relu6"),
    ("mbconv", 8, 8, 40, 80, 7, 2, 3, "relu6"),
    ("mbconv", 4, 4, 80, 80, 3, 1, 6, "relu6"),
    ("mbconv", 4, 4, 80, 80, 3, 1, 6, "relu6"),
    ("conv", 4, 4, 80, 256, 1, 1, 1, "relu6"),
    ("pool", 4, 4, 256, 256, 4, 1, 1, "none"),
    ("linear", 1, 1, 256, 10, 1, 1, 1, "none"),
]


def main() -> None:
    table = pd.read_csv(sys.argv[1], comment="#")
    for column, default in DEFAULTS.items():
        if column in table:
            table = table[table[column].fillna(default) == default]
    # The latency inside a network if the table has it, otherwise the one measured alone.
    table["ms"] = table["in_network_ms"].fillna(table["latency_ms"])
    network = pd.DataFrame(NETWORK, columns=COLUMNS)
    found = network.merge(table, how="left", on=list(COLUMNS), validate="many_to_one")
    if found["ms"].isna().any():
        sys.exit(f"the table lacks\n{network[found['ms'].isna()].to_string(index=False)}")
    print(found[["kind", "height", "out_channels", "kernel", "ms"]].to_string(index=False))
    print(f"sum {found['ms'].sum():.9f} ms")


if __name__ == "__main__":
    main()
