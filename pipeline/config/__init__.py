"""The configuration: read, checked and turned into typed sections.

YAML text comes in, sections with their defaults go out. What artefacts follow from it belongs in
`planning`.
"""
