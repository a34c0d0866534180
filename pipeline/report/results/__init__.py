"""Results as data: one row for each model and attack, means over seeds, and who is best.

A study's outcomes come in; rows, files, aggregated tables and sentences go out. The page, the
files beside it and the verb ``results`` all read these.
"""
