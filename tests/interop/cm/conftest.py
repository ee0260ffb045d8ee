"""YAML files are read once for each module of tests: hundreds of commands are translated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from nvkit.config import files


@pytest.fixture(autouse=True, scope="module")
def _yaml_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "read_yaml", cache(files.read_yaml))
        yield
