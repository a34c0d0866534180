"""Data sets: one file each, and the file's name is its ``source:`` in the configuration.

A cache folder comes in, images and labels of a split go out. `data.source_files` says what a file
must hold and has what several need.
"""
