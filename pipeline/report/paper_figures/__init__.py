"""The papers' figures from a configuration's own artefacts: one file for each sort of figure."""
