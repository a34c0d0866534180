"""The one error type a user meets: a line that names the key or file, and the remedy."""


class RetortError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""
