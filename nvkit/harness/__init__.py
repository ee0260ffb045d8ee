"""LoadGen: settings, sample library, system under test, and the measured child. The only hot path."""

from nvkit.harness.launch import TestSpec, refuse_audit_config, run_test, set_aside, unfinished

__all__ = ["TestSpec", "refuse_audit_config", "run_test", "set_aside", "unfinished"]
