"""Losses that a generator, or the optimised images themselves, minimise: one file each.

Each file has a ``Loss`` whose fields are its hyper-parameters. ``needs()`` names the networks that
it uses: "teacher", "student" or both. Called with a ``GeneratedBatch``, it returns weighted terms,
each (B,), whose mean is minimised. ``rounds`` says that it works only on images optimised in
rounds. A loss with state or parameters is an ``nn.Module``; ``prepare(batch)`` allocates them and
``remember(batch)`` ends a round.
"""
