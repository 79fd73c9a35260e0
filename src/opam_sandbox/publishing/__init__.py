"""What happens to an image after it was made: shared layout directories, registries, containers.

A part of its own with a command line of its own (`__main__.py`), so that a change here builds no layer anew.
"""
