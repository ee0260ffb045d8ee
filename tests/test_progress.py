from __future__ import annotations

import io
from typing import Any

import pytest

from nvkit import progress


def test_without_a_person_the_bar_is_text_and_disappears() -> None:
    shown = io.StringIO()
    for _ in progress.tqdm(range(3), desc="work", file=shown, mininterval=0):
        pass
    assert "work: 100%" in shown.getvalue()
    assert shown.getvalue().rsplit("\r", 1)[-1].strip() == ""


def test_a_person_gets_a_widget_whose_output_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[Any] = []

    class Handle:
        def update(self, *arguments: Any, **options: Any) -> None:
            updates.append((arguments, options))

    monkeypatch.setattr(progress, "person_present", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Handle())
    with progress.tqdm(total=5, desc="work") as bar:
        assert type(bar).__name__ == "Bar"
        bar.update(2)  # closed before its total, as when a test ends early
    assert updates == [(({"text/plain": ""},), {"raw": True})]
    bar.close()
    assert len(updates) == 1


def test_a_person_is_one_whose_front_end_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not progress.person_present()

    class Shell:
        kernel = type("Kernel", (), {"_allow_stdin": True})()

    monkeypatch.setattr("IPython.get_ipython", lambda: Shell())
    assert progress.person_present()
    Shell.kernel._allow_stdin = False
    assert not progress.person_present()
