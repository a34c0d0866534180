"""Tests of `pipeline/training`."""
