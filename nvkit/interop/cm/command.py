"""`nvkit from-cm`: prints what a command of CM's script is in nvkit, and runs it if asked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nvkit.interop.cm.data import Decision
from nvkit.interop.cm.translate import Translation, translate


def from_cm(words: Sequence[str], run: bool = False, nvidia_code: str = "") -> Translation:
    """Translate a command of CM's script, say what became of each word, and run nvkit's command if `run` is set.

    Args:
        words: The command, as one text or in separate words.
        run: Run the nvkit command after printing it.
        nvidia_code: Checkout of NVIDIA's code, to run that instead of nvkit's own harness.

    Raises:
        NvkitError: what `translate` raises, and what the command raises.
    """
    found = translate(words, nvidia_code)
    print(f"{found.outcomes}\n")
    for decision in found.decisions:
        print(_told(decision))
    print(f"{found.shell_line()}\n\nnotebook parameters:")
    for name, value in found.parameters().items():
        print(f"{name} = {value!r}")
    if run:
        from nvkit.cli import app

        print(flush=True)
        app(found.command[1:], standalone_mode=False, prog_name="nvkit")
    return found


def _told(decision: Decision) -> str:
    verb = {"mend": "mended", "reproduce": "reproduced"}[decision.choice]
    text = f"{decision.name} ({verb}). The script: {decision.script} nvkit: {decision.nvkit} Why: {decision.why}"
    return textwrap.fill(text, 110, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False) + "\n"
