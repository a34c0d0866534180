"""Tests of `pipeline/datasets`."""
