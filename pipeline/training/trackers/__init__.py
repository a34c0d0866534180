"""Experiment trackers: one file each, and the file's name is its name under ``run.logging``.

``write_epoch(folder, record)`` takes an epoch's numbers by name, among them ``epoch``, and writes
them where the tracker finds them. No result depends on what is written.
"""
