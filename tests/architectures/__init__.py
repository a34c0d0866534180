"""Tests of `pipeline/architectures`."""
