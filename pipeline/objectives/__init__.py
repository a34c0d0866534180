"""Training objectives: one file each, and the file's name is its name in the configuration.

Networks and a batch come in, weighted losses per sample go out. What several objectives share
belongs in `core`.
"""
