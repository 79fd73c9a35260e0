"""Checks an image against what a target expects of it. Nothing is made of what it says."""
