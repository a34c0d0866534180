"""Training data made without data, by generators and by inversion.

The room turns a teacher and a generator into batches of images. What generators minimise belongs
in `generator_losses`, what students minimise in `objectives`.
"""
