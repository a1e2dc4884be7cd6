"""Reads a Parquet file over HTTP as data tools do, and holds it against the file itself.

    http_clients.py write PATH
    http_clients.py {pyarrow|duckdb|whole} URL PATH
"""

import sys
import urllib.request
from pathlib import Path

import pyarrow
import pyarrow.parquet

COLUMNS = ["number", "text"]


def write(path):
    rows = range(200_000)
    table = pyarrow.table(
        {
            "number": pyarrow.array(rows, pyarrow.int64()),
            "text": [f"row {row}" for row in rows],
            # Three quarters of the file, which nobody asks for.
            "bulk": [f"{row * 2654435761 % 2**32:08x}{row * 40503 % 2**32:08x}" * 3 for row in rows],
        }
    )
    pyarrow.parquet.write_table(table, path, row_group_size=20_000, compression="none", use_dictionary=False)


def with_pyarrow(url, path):
    import fsspec

    with fsspec.filesystem("http").open(url, block_size=1 << 16) as file:
        table = pyarrow.parquet.ParquetFile(file).read_row_group(3, columns=COLUMNS)
    assert table.equals(pyarrow.parquet.ParquetFile(path).read_row_group(3, columns=COLUMNS))


def with_duckdb(url, path):
    import duckdb
    import duckdb_extension_httpfs

    connection = duckdb.connect()
    extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))
    connection.execute(f"LOAD '{extension}'")
    query = "SELECT count(*), sum(number), min(text), max(text) FROM read_parquet(?) WHERE number BETWEEN 60000 AND 79999"
    found = connection.execute(query, [url]).fetchall()
    assert found == connection.execute(query, [str(path)]).fetchall(), found


def whole(url, path):
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == Path(path).read_bytes()


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    {"write": write, "pyarrow": with_pyarrow, "duckdb": with_duckdb, "whole": whole}[task](*arguments)
