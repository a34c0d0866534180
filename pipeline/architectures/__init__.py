"""Networks by name: one file each, found by its file name.

A file gets the number of classes and the shape of an image and returns a network. Weights from
elsewhere belong in `models.pretrained`.
"""
