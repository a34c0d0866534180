"""What runs on a GPU from a bare copy of the repository: `python benchmarks/gpu/run.py`."""
