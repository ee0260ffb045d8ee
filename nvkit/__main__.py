"""The command line's entry point: one handler turns every error into a paragraph and an exit code."""

from __future__ import annotations

import sys
import textwrap
import traceback

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run `nvkit ARGUMENTS` and exit with the code of `nvkit.errors`."""
    import typer

    from nvkit.cli import app
    from nvkit.errors import NvkitError, disk_errors

    try:
        with disk_errors("the outputs folder"):
            code = app(arguments, standalone_mode=False, prog_name="nvkit")
    except NvkitError as error:
        _complain(f"{error.what} {error.fix}")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        code = 0  # the reader of our output, such as head, has seen enough
        sys.stderr.close()
    except Exception as error:
        usage = getattr(error, "format_message", None)  # click's usage errors; typer brings its own copy of click
        if usage:
            _complain(f"{usage()} See nvkit --help.")
            code = 2
        else:
            traceback.print_exc()
            _complain("This is a defect of nvkit, not of your input: please report it with the lines above.")
            code = 1
    if code == _INTERRUPTED:  # typer turns an interrupt into this code
        _complain("Interrupted. What was finished is kept; the same command continues.")
    sys.exit(code or 0)


def _complain(text: str) -> None:
    print(textwrap.fill(f"nvkit: {text.strip()}", 100, break_long_words=False, break_on_hyphens=False), file=sys.stderr)


if __name__ == "__main__":
    main()
