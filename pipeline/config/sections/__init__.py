"""The configuration's sections: schema, defaults and documentation in one place, a file a kind.

Values of the configuration come in, checked sections go out. Fields marked ``added(…)`` came after
the first release; they stay out of the keys while they have their neutral default, so that a new
field does not rename what exists.
"""
