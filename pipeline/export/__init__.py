"""Finished models in the forms that other tools read, and back.

A finished artefact comes in, a folder with one form of it goes out. `forms` has one file for each
form; its name is what the command line calls it.
"""
