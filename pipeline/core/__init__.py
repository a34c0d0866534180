"""The maths: tensors come in, tensors or numbers go out.

Losses, threat models, PGD, mixing and randomness live here. Nothing here opens a file or knows of
a configuration, an artefact or a stage.
"""
