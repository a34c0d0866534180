"""Tests of `pipeline/banks`."""
