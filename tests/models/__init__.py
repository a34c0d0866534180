"""Tests of `pipeline/models`."""
