"""Training steps as the code beside papers commonly has them, in our own words, to measure against.

Each file has one function ``step``: it takes networks, an optimiser and a batch, and takes one
optimiser step. They are the plain form: single precision, the whole graph of a forward kept for its
input gradient, every output computed where the equation has it.
"""
