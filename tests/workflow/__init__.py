"""Tests of whole workflows: the graph, kills and resume, edits, SLURM."""
