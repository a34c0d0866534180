"""`make slurm-test`: the tiny graph through a real SLURM controller on this machine."""
