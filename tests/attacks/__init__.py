"""Tests of `pipeline/attacks`."""
