"""Compares images: manifests, configurations, and layers file by file. Changes nothing, and nothing is made of what it says."""
