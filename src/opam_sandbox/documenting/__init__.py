"""Makes pages for a browser out of what packages installed, by odoc. A change of this part builds no package anew."""
