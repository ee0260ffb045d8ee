"""The process between nvkit and a command: `python supervisor.py LINE` runs a shell line.

It leads the process group of the command and reads its standard input, which nvkit holds open. When that closes,
because nvkit wants to stop or was itself killed, the whole group ends: no make, harness or docker client is left
behind on the GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import psutil

_PATIENCE_S = 5.0


def main(line: str) -> int:
    """Run a shell line; return its exit code as a shell says it, 128 + n for signal n."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the command would inherit
    command = subprocess.Popen(["bash", "-c", line], stdin=subprocess.DEVNULL)
    stopper = threading.Thread(target=_stop_with_parent, daemon=True)
    stopper.start()
    code = command.wait()
    if code in (-signal.SIGTERM, -signal.SIGINT):
        stopper.join(_PATIENCE_S)  # the command ended because it was told to: let the rest of the group follow
    return code if code >= 0 else 128 - code


def _stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 64):  # not sys.stdin.read: the interpreter cannot end while a thread holds it
        pass
    started = psutil.Process().children(recursive=True)
    os.killpg(0, signal.SIGTERM)
    psutil.wait_procs(started, timeout=_PATIENCE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
