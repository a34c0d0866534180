"""What a generator, or a batch of images itself, minimises to become training data: a file each.

Each has a ``Loss`` whose hyper-parameters are its fields. ``needs()`` says whom it looks through:
"teacher", "student" or both. Called with ``Made``, it returns weighted terms, each (B,), whose
mean is minimised. ``rounds`` says that it works on images made in rounds alone. One that remembers
or learns is an ``nn.Module``; ``prepare(made)`` sizes it and ``remember(made)`` ends a round.
"""
