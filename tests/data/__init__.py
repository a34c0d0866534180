"""Tests of `pipeline/data`."""
