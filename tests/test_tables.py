from __future__ import annotations

from nvkit.tables import Table


def test_text_aligns_numbers_right_and_shows_notes() -> None:
    table = Table(["name", "value"], [["a", 1.5], ["bb", 12345.0], ["c", None]], "Title", ["a note"])
    assert str(table).splitlines() == [
        "Title",
        "name   value",
        "----  ------",
        "a        1.5",
        "bb    12,345",
        "c",
        "a note",
    ]


def test_html_escapes_what_it_shows() -> None:
    shown = Table(["<h>"], [["<script>"]], "T & t", ["n < m"])._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "T &amp; t" in shown
    assert "n &lt; m" in shown


def test_an_empty_table_and_booleans() -> None:
    assert str(Table(["a", "b"], [])) == "a  b\n-  -"
    assert str(Table(["ok"], [[True], [False]])).split() == ["ok", "---", "yes", "no"]
