"""Losses that a generator, or the optimised images themselves, minimise: one file each.

Each file has a ``Loss`` whose fields are its hyper-parameters. ``needs()`` names the networks that
it uses: "teacher", "student" or both. Called with a ``GeneratedBatch``, it returns weighted terms,
each (B,), whose mean is minimised. ``rounds`` says that it works only on images optimised in
rounds. ``generator_start`` says what a round's generator begins with: weights drawn "fresh" as
torch does (so it is where a loss says nothing), drawn from a "normal" distribution as in DCGAN, or
"kept" from the last round.

A loss with state or parameters is an ``nn.Module``; ``prepare(batch)`` allocates them.
``watch(teacher)`` is a context that collects tensors of the teacher's forward into
``batch.watched``. ``remember(batch)`` ends a round, with the batch of its best iteration.
"""
