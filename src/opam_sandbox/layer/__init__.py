"""Layers: from a directory to a tar, a blob and its description, and from a blob to a directory of the store."""
