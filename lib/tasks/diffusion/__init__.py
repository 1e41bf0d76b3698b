"""Task `diffusion`."""
