"""Making lockfiles: the part of the tool that uses the network, and that no build needs.

It is kept apart so that a change of it is no change of the tool that layers are built with.
"""
