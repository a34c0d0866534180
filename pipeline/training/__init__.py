"""The one training loop and what surrounds it: optimiser, state, validation, several GPUs.

The room turns networks, an objective and batches into trained weights and a history. What one kind
of artefact trains belongs in `stages`.
"""
