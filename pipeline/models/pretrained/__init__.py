"""Foreign weights: read safely, matched to our networks, checked.

A foreign file comes in, a state dict for one of our networks goes out. Nothing here runs code from
a file.
"""
