"""Verbs on a finished model: a name comes in, files or predictions go out."""
