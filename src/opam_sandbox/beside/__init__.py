"""Layers beside one another: what neither of two was built over, and what their union is."""
