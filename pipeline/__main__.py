"""`python -m pipeline <verb>` is the command `retort <verb>`."""

from pipeline.cli.main import run_command

run_command()
