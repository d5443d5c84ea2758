"""Ways to look at a scene: a live viewer, one self-contained page, videos and exports."""
