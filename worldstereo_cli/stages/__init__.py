"""The four stages, as dominoes: image, cloud, cameras, frames, splats."""
