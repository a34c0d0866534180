"""The smallest valid plug-in of each kind, which ``check --example`` prints; each is itself tried.

Their text comes out; nothing imports them.
"""
