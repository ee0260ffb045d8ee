"""How fast a system is expected to be: where the value comes from, what it means for a run, and how it is found.

Usage::

    from nvkit.tuning.tune import tune

    result = tune(config, run, scenario="Server")
"""
