"""Snakemake's logger `retort`: what a run's console shows.

On a terminal a line for each running job and a bar for all; elsewhere a line a minute. A line as
each artefact is made, and a short block for each job that fails. Snakemake's own text goes to its
log file alone. Every snakemake of the environment imports this, so it imports little.
"""

import os
import sys
from dataclasses import dataclass, field
from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

CONSOLE_VARIABLE = "RETORT_CONSOLE"  # tells the jobs to print into their logs alone


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options, on the command line with the prefix `--logger-retort-`."""

    plain: bool = field(
        default=False,
        metadata={"help": "show all that Snakemake and the jobs say, as without this logger"},
    )


class LogHandler(LogHandlerBase):
    """Hands Snakemake's records to the console that the options ask for."""

    def __post_init__(self) -> None:
        asked = self.common_settings
        self.is_plain = (
            self.settings.plain or asked.verbose or asked.debug_dag or asked.printshellcmds
        )
        self.stream = sys.stdout if asked.stdout else sys.stderr
        self.console = None
        if self.is_plain:
            os.environ.pop(CONSOLE_VARIABLE, None)
        else:
            os.environ[CONSOLE_VARIABLE] = "run"

    def emit(self, record: LogRecord) -> None:
        """Shows a record that passed Snakemake's filter for `--quiet`."""
        if self.console is None:
            self.console = self.make_console()
        try:
            self.console.handle(record)
        except Exception:
            self.handleError(record)  # as logging asks of a handler: prints it, and the run goes on

    def make_console(self) -> Any:
        """The console, made when the first record comes, since Snakemake then has its formatter."""
        if self.is_plain:
            from snakemake.logging import ColorizingTextHandler

            return ColorizingTextHandler(self.common_settings.nocolor, self.stream, self.formatter)
        from snakemake_logger_plugin_retort.console import RunConsole

        asked = self.common_settings
        return RunConsole.open(self.stream, is_dry_run=asked.dryrun, is_coloured=not asked.nocolor)

    def close(self) -> None:
        """Takes the live lines away."""
        if self.console is not None:
            self.console.close()
        super().close()

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False
