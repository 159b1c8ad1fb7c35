"""Names and colours in the local dashboard; what SwanLab itself draws is in test_swanlab.py."""

import sqlite3
from pathlib import Path

from trainyard.tracking import swanlab_board


def test_experiments_are_told_apart_by_their_colours(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / swanlab_board.DATABASE) as database:
        database.execute("CREATE TABLE experiment (run_id TEXT, name TEXT, light TEXT)")
        database.executemany("INSERT INTO experiment VALUES (?, ?, ?)", [("a", "a", "#cc5252"), ("b", "b", None)])
    red, green, blue = (int(swanlab_board.free_color(tmp_path)[start : start + 2], 16) for start in (1, 3, 5))
    assert red < min(green, blue), "of 32 hues none is this far from red once in 10^9"
    assert swanlab_board.free_name(tmp_path, "a") == "a (2)" and swanlab_board.free_name(tmp_path, "c") == "c"
