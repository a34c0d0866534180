"""Attacks for evaluation: one file each, and the file's name is its name in the configuration.

A model, images and labels come in; predicted classes go out. `core.attack_protocol` says what an
attack must be and holds what several need. Attacks during training belong in `objectives`.
"""
