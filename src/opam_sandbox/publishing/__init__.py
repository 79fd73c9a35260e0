"""Puts images into registries and shared layout directories. Its command line is that of `running`, too."""
