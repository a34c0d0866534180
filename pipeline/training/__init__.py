"""The one training loop and what surrounds it: optimiser, state, validation, several GPUs.

Networks, an objective and batches come in, trained weights and a history go out. What one kind of
artefact trains belongs in `stages`.
"""
