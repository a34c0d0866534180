"""Tests of `pipeline/objectives`."""
