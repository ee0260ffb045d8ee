"""Runs one action for one benchmark and scenario: `python3 -m code.main --benchmarks=... --action=...`.

Unlike the releases it refuses an option that it does not know, so that a test sees what nvkit should not have passed
on. The environment variable STANDIN makes it misbehave: fail, exit, hang, none, other, cut, unscored, each with the
action after a colon.
"""

import os
import sys
import time
from code.common.fields import FIELDS
from code.common.systems.system_list import MATCHED_SYSTEM
from pathlib import Path

SCENARIOS = {name.lower(): name for name in ("Offline", "Server", "SingleStream", "MultiStream")}


def parse(words):
    """Return the options."""
    args = {}
    for word in words:
        name, given, value = word.removeprefix("--").partition("=")
        if name not in FIELDS:
            sys.exit(f"code.main: unrecognized option {word}")
        kind = FIELDS[name].value_type
        args[name] = kind(value) if given else True
    return args


def generate_engines(args, system, benchmark, scenario):
    """Write a plan file under the name that the releases use."""
    folder = Path("build/engines") / system / benchmark / scenario
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{benchmark}-{scenario}-gpu-b{args.get('gpu_batch_size', 1)}-{args.get('precision', 'int8')}.default.plan"
    (folder / name).write_text(f"{args} {time.time_ns()}\n")
    print(f"[I] Engine written: {folder / name}")


def calibrate(args, system, benchmark, scenario):
    """Write a calibration cache."""
    (Path("code") / benchmark / "tensorrt" / "calibrator.cache").write_text(
        f"TRT-8600-EntropyCalibration2\n{time.time_ns()}\n"
    )
    print("[I] Calibration done")


def run_harness(args, system, benchmark, scenario):
    """Run LoadGen into <log_dir>/<system>_TRT/<benchmark>/<scenario>."""
    if not list((Path("build/engines") / system / benchmark / scenario).glob("*.plan")):
        raise RuntimeError(f"File build/engines/{system}/{benchmark}/{scenario}/gpu.plan does not exist.")
    if not (Path(os.environ["MLPERF_SCRATCH_PATH"]) / "preprocessed_data" / "done").is_file():
        raise RuntimeError("Preprocessed data is missing.")
    folder = Path(args["log_dir"]) / f"{system}_TRT" / benchmark / scenario
    folder.mkdir(parents=True, exist_ok=True)
    from code import harness

    harness.run(args, scenario, folder)


def run_audit_harness(args, system, benchmark, scenario):
    """Run LoadGen into the folder of the audit test, whatever --log_dir says."""
    run_harness({**args, "log_dir": f"build/compliance_logs/{args['audit_test']}"}, system, benchmark, scenario)


def main():
    """Do what the command line asks."""
    args = parse(sys.argv[1:])
    action = args["action"]
    kind, _, where = os.environ.get("STANDIN", "").partition(":")
    trouble = kind if where == action else ""
    if MATCHED_SYSTEM is None or trouble == "exit":
        print("Detected system did not match any known systems. Exiting.")
        return
    if trouble == "fail":
        print("Loading the model")
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    scenario = SCENARIOS[args["scenarios"]]
    if trouble == "hang":
        print(f"waiting, process {os.getpid()}", flush=True)
        time.sleep(600)
    globals()[action](args, MATCHED_SYSTEM.partition(".")[2], args["benchmarks"], scenario)


if __name__ == "__main__":
    main()
