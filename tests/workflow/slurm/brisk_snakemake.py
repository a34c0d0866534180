"""Snakemake's command line, its SLURM plugin without two of its waits.

The plugin asks less and less often what has become of the jobs, down to once in three minutes; here
it asks every few seconds. It asks `sacct` instead of `squeue` once the controller has taken more
than ten seconds to say its MinJobAge; without accounting that fails, and the plugin then forgets
its jobs and waits for ever. Here it knows MinJobAge.
"""

import snakemake_executor_plugin_slurm as plugin
from snakemake.cli import main

from tests.workflow.slurm.cluster import MIN_JOB_AGE

SECONDS_BETWEEN_CHECKS = 3

plugin.Executor.next_seconds_between_status_checks = property(
    lambda self: SECONDS_BETWEEN_CHECKS, lambda self, seconds: None
)
plugin.get_min_job_age = lambda: MIN_JOB_AGE
main()
