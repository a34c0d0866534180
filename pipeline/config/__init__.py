"""The configuration: read, checked and turned into typed sections.

YAML text comes in; sections with their defaults go out. The artefacts that follow from them belong
in `planning`.
"""
