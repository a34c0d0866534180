"""Tests of `pipeline/export`, and of the verbs that use it."""
