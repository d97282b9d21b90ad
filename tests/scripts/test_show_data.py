"""The command; its drawings are compared in tests/oxford102/test_show.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Run


def test_lists_names_and_a_warning(small: Path, run: Run) -> None:
    (small / "train.txt").write_text("pictures/a.png 0\npictures/b.png 1\n")
    (small / "valid.txt").write_text("pictures/c.png 1\npictures/b.png 1\n")
    (small / "names").write_text("rose\nlily\n")
    done = run("show_data.py", "train.txt", "valid.txt", "-o", "shots", "--labels", "names")
    assert done.returncode == 0
    assert done.stderr == ("show_data.py: warning: pictures of train that are also in valid: 1, as pictures/b.png\n")
    assert (small / "shots" / "samples.png").is_file()
    again = run("show_data.py", "train.txt", "-o", "shots")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("show_data.py: error: shots/histogram.png exists")


def test_usage_and_help(run: Run) -> None:
    assert run("show_data.py", "data").returncode == 2
    assert run("show_data.py", "data", "-o", "shots", "--seed", "x").returncode == 2
    assert run("show_data.py", "absent", "-o", "shots").stderr == (
        "show_data.py: error: absent: no such list; expected a file with lines 'path label'\n"
    )
    assert "python scripts/show_data.py data/mine -o shots" in run("show_data.py", "--help").stdout
