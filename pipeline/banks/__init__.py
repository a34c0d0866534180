"""Banks of adversarial samples: built block by block, stored in shards, read as batches.

The room turns a data set and a teacher into checked shards, and a bank into batches. The job that
builds a bank belongs in `stages`.
"""
