"""Tests of `pipeline/config`."""
