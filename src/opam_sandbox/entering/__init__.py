"""Runs commands of a person's over the layers of built packages. A change of this part builds nothing anew."""
