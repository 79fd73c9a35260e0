"""Makes images out of layers. A change here builds no package anew."""
