"""Tests of `pipeline/data_free`."""
