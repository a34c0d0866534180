"""From the configuration to artefacts with keys, and to what each costs.

A configuration comes in, a plan of artefacts goes out. Nothing here loads a network's weights or
writes an artefact.
"""
