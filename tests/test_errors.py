from __future__ import annotations

import errno
import inspect
import re

import pytest

from nvkit import errors
from nvkit.errors import ConfigError, DiskFullError, NvkitError, disk_errors, nearest


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    classes = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, NvkitError)}
    drawn = re.findall(r"\+-- (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(set(classes) - {"NvkitError"})
    codes = dict(re.findall(r"\+-- (\w+) +(\d)", errors.__doc__ or ""))
    assert {name: classes[name].exit_code for name in codes} == {name: int(code) for name, code in codes.items()}


def test_an_error_says_what_and_what_to_do() -> None:
    error = ConfigError("x is 3.", "Make it 4.")
    assert str(error) == "x is 3. Make it 4."
    assert error._render_traceback_() == ["ConfigError: x is 3.", "What to do: Make it 4."]


def test_nearest_names_one_and_lists_all_if_they_are_few() -> None:
    assert nearest("ofline", ["Offline", "Server"]) == "Did you mean 'Offline'? Known: Offline, Server."
    assert nearest("zzz", []) == "Known: none."
    assert nearest("name7", [f"name{i}" for i in range(40)]) == "Did you mean 'name7'?"
    assert "nvkit list" in nearest("zzz", [f"name{i}" for i in range(40)])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_becomes_one_error(code: int) -> None:
    with pytest.raises(DiskFullError, match="of /some/file is full"), disk_errors("folder"):
        raise OSError(code, "full", "/some/file")


def test_other_system_errors_pass() -> None:
    with pytest.raises(PermissionError), disk_errors("folder"):
        raise PermissionError(errno.EACCES, "no")
