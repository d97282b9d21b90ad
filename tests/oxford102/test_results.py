"""The file of results and README.md's table, which must be drawn of it."""

from __future__ import annotations

import csv
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from oxford102.errors import ToolError
from oxford102.results import COLUMNS, Result, append, draw, read_results, table

ROOT = Path(__file__).resolve().parents[2]
ROW = Result("CaffeNet", "oxford102", "256->227 px", "84.02", "81.5", "50000", "", "a GPU, fast", "2026-01-02", "abc+")


def test_rows_come_back_and_any_reader_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "results" / "results.csv"
    rows = [ROW, replace(ROW, model='says "hi"', seconds="12")]
    assert read_results(path) == []
    for row in rows:
        append(path, row)
    assert read_results(path) == rows
    with path.open(newline="") as file:
        assert [tuple(line) for line in csv.reader(file)] == [COLUMNS, *map(astuple, rows)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the first line model,data,settings,.*, got nothing; mend it"),
        ("model,data\n", "expected the first line .*, got model,data"),
        (",".join(COLUMNS) + "\na,b,c,1\n", "row 2: expected 10 values .*, got a,b,c,1"),
        (",".join(COLUMNS) + "\na,b,c,good,1,,,,,\n", "row 2: expected 10 values with accuracies"),
        (",".join(COLUMNS) + "\na,b,c,100.1,1,,,,,\n", "row 2: expected 10 values with accuracies"),
        (",".join(COLUMNS) + "\na,b,c,0,100,,,,,\na,b,c,1,-1,,,,,\n", "row 3: expected 10 values with accuracies"),
        (",".join(COLUMNS) + '\na,"b', "is not a table of results"),
    ],
)
def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(text)
    with pytest.raises(ToolError, match=message):
        append(path, ROW)
    assert path.read_text() == text


def test_the_last_row_counts_beside_the_published() -> None:
    small = replace(ROW, settings="small")
    own = replace(ROW, data="mine", settings="256|227 px")
    lines = table([ROW, small, own, replace(ROW, test="82.1")]).splitlines()
    assert lines[2:5] == [
        "| CaffeNet | oxford102 | 256->227 px | 83.95 | 81.43 | 84.02 | 82.1 |",
        "| CaffeNet | oxford102 | small | 83.95 | 81.43 | 84.02 | 81.5 |",
        "| CaffeNet-frozen | oxford102 | | 82.85 | about 80.4 | | |",
    ]
    assert lines[-1] == "| CaffeNet | mine | 256/227 px | | | 84.02 | 81.5 |"
    assert len(lines) == 2 + 6 + 1
    assert len({line.count("|") for line in lines}) == 1


def test_the_table_takes_its_place(tmp_path: Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "results.csv"
    append(results, ROW)
    readme.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    draw(readme, results)
    expected = f"before\n<!-- results -->\n\n{table([ROW])}\n\n<!-- /results -->\nafter\n"
    assert readme.read_text() == expected
    draw(readme, results)
    assert readme.read_text() == expected
    for broken in ("nothing here\n", "before\n<!-- results -->\nold\n", "old\n<!-- /results -->\nafter\n"):
        readme.write_text(broken)
        with pytest.raises(ToolError, match=r"README\.md: expected the lines <!-- results --> and <!-- /results -->"):
            draw(readme, results)
        assert readme.read_text() == broken


def test_the_readme_tells_what_the_file_of_results_tells() -> None:
    text = (ROOT / "README.md").read_text()
    between = text.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    assert between.strip() == table(read_results(ROOT / "results" / "results.csv"))
