"""Banks of adversarial samples: built block by block, stored in shards, read as batches.

A data set and a teacher come in, checked shards go out; a bank comes in, batches go out. The job
that builds a bank belongs in `stages`.
"""
