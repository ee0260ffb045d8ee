"""Power modes: what MaxQ and MaxN set, the commands for it, the check before a run, and setting it if told to.

`plan` says what a mode sets for one scenario (NVIDIA's own limits differ by scenario), `check` compares it with the
machine, and `applied` guards a test: it refuses one whose GPU is not in the state, or, told to, sets the state
through NVML and puts back what was there before. Nothing here changes a GPU unless `apply` is true.
"""

from nvkit.power.apply import Record, applied
from nvkit.power.checks import Check, Checks, check
from nvkit.power.plan import PowerPlan, plan
from nvkit.power.state import LeftOver, left_over
from nvkit.power.steps import Step

__all__ = ["Check", "Checks", "LeftOver", "PowerPlan", "Record", "Step", "applied", "check", "left_over", "plan"]
