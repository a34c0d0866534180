"""Tests of `pipeline/store`."""
