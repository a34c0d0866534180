"""Training data made without data, by generators and by inversion.

A teacher and a generator come in, batches of images go out. What generators minimise belongs in
`generator_losses`, what students minimise in `objectives`.
"""
