"""What scenes are drawn from: which kinds, through which cameras, dressed in what."""

from dataclasses import dataclass

CATEGORIES = (
    "room",
    "handheld",
    "tabletop",
    "street",
    "driving",
    "nature",
    "portrait",
    "aerial",
    "abstract",
    "road",
    "sensor",
    "glassware",
    "vista",
)
"""Kinds of scenes, in the order of source/generate.h."""


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """Shares of the kinds of scenes (they need not add up to 1), and sources that can be left out."""

    room: float = 0.15
    handheld: float = 0.15
    tabletop: float = 0.11
    street: float = 0.09
    driving: float = 0.07
    nature: float = 0.08
    portrait: float = 0.09
    aerial: float = 0.02
    abstract: float = 0.03
    road: float = 0.1
    sensor: float = 0.07
    glassware: float = 0.04
    vista: float = 0.06
    camera_spread: float = 1.0
    """Scales how far lenses stray from 62 degrees, and how far cameras tilt, roll and miss their target."""
    pictures: bool = True
    """Photographs as textures, also on furniture. Off: procedural patterns alone."""
    furniture: bool = True
    """Meshes of the asset pack. Off: shapes, and the meshes that are made by program."""
    panoramas: bool = True
    """Light from photographed skies and rooms. Off: an even sky."""

    def __post_init__(self) -> None:
        if min(self.mixture().values()) < 0 or sum(self.mixture().values()) <= 0 or self.camera_spread < 0:
            raise ValueError(f"Expected shares >= 0, one above, and a spread >= 0, got {self}")

    def mixture(self) -> dict[str, float]:
        """Return the share of each category, by name."""
        return {name: float(getattr(self, name)) for name in CATEGORIES}
