"""The language of CM's script reproduce-mlperf-inference-nvidia, translated into nvkit's.

    parse      a command line or dict to tags, flags and variables
    script     whether they are of this script
    newer      words of the script's successor
    select     variations and environment, by CM's rules
    target     profile, benchmark, scenario, mode, power, round, stage
    settings   values of settings, and whether the profile has them anyway
    outcomes   what became of each word
    translate  all of it
    coverage   the table of everything that the script has

The facts stand in YAML files beside the modules.
"""

from nvkit.interop.cm.command import from_cm
from nvkit.interop.cm.translate import Translation, translate

__all__ = ["Translation", "from_cm", "translate"]
