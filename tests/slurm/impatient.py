"""Snakemake as it is, except that it looks at SLURM's queue every second.

By itself, its executor waits 10 s longer after each look that shows no finished job, up to 3 minutes; no option has a
say in this, and half of the tests' time would be spent on it.
"""

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

if __name__ == "__main__":
    RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
    main()
