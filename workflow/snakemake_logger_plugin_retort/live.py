"""The live lines of a terminal: one a running job, and a bar over all."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.progress import format_duration
from snakemake_logger_plugin_retort.job_logs import WAITING

if TYPE_CHECKING:
    from snakemake_logger_plugin_retort.console import RunConsole

REFRESHES_PER_SECOND = 2
BAR_WIDTH = 20
SPARE_LINES = 4  # of the terminal's height


@dataclass
class LiveLines:
    """What is redrawn while jobs run; Snakemake's and our lines scroll above it."""

    console: "RunConsole"
    live: Live | None = None
    start_time: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Begins to draw; does nothing where it has begun."""
        if self.live is None:
            self.live = Live(
                console=self.console.out,
                get_renderable=self.draw,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.live.start()

    def stop(self) -> None:
        """Takes the lines away."""
        if self.live is not None:
            live, self.live = self.live, None
            live.stop()

    def draw(self) -> RenderableType:
        """The running jobs' lines, oldest first, and the bar over all."""
        console = self.console
        jobs = list(console.jobs.values())
        room = max(console.out.size.height - SPARE_LINES, 1)
        table = Table.grid(padding=(0, 1), expand=False)
        for column in ("label", "bar", "left", "text"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for job in jobs[:room]:
            state = job.read_state()
            share = state.share
            bar = ProgressBar(total=1.0, completed=share, width=BAR_WIDTH) if share else ""
            left = Text(f"{state.left} left" if state.left else "", "cyan")
            table.add_row(Text(job.label, "bold"), bar, left, Text(state.text or WAITING, "dim"))
        overall = Table.grid(padding=(0, 1))
        took = format_duration(time.monotonic() - self.start_time)
        bar = ProgressBar(total=max(console.total, 1), completed=console.done, width=2 * BAR_WIDTH)
        overall.add_row(bar, f"{console.done} of {console.total} made", f"{took} so far")
        hidden = [Text(f"and {len(jobs) - room} more", "dim")] if len(jobs) > room else []
        return Group(table, *hidden, overall)
