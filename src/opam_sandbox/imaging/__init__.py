"""Commands that make images out of layers: apart from what makes layers, so that a change here builds no package anew."""
