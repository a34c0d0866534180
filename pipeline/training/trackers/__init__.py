"""Experiment trackers: one file each, and the file's name is its name under ``run.logging``.

``write_epoch(folder, history, is_finished)`` gets the numbers of every epoch so far, by epoch and
name, and whether the last one ends the training. It writes the last epoch where the tracker's own
tools find it; epochs that a killed process wrote and this one trains again are there once. No
result depends on what is written.
"""
