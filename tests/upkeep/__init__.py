"""Tests of `pipeline/upkeep`."""
