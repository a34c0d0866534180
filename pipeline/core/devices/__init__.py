"""What differs on an accelerator: copies from the host, reads by the host, captured kernels.

Devices and functions come in; tensors on the device go out, the same numbers as without.
"""
