"""Each plug-in tried on tiny networks and images: what the verb `check` and the tests ask of it.

A plug-in's name comes in; a fault is a RetortError that says in one line what was seen.
`contracts` holds what is checked without running anything.
"""
