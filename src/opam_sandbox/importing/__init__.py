"""Takes images that others made as bases: their layers as they are, and the one layer that these make together."""
