"""The places: what stands behind the figures, by day, at sunset and at night.

A place is drawn in the frame of the picture: x and y in [0, 1], y downwards, and a margin on both
sides for the camera. The ground in front is free for the figures.
"""

from collections.abc import Mapping
from types import MappingProxyType

from storyreel.training.world.places.indoors import bedroom, kitchen, library
from storyreel.training.world.places.outdoors import (
    beach,
    castle,
    desert,
    forest,
    mountain,
    park,
    street,
)
from storyreel.training.world.places.scenery import Place

PLACE_DRAWINGS: Mapping[str, Place] = MappingProxyType(
    {
        "park": park,
        "beach": beach,
        "forest": forest,
        "city street": street,
        "kitchen": kitchen,
        "bedroom": bedroom,
        "snowy mountain": mountain,
        "castle garden": castle,
        "library": library,
        "desert": desert,
    }
)
INDOORS = frozenset({"kitchen", "bedroom", "library"})
