"""The interface of renderers of the frames between two keyframes.

Axes: F frames, H height, W width.
"""

from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Two keyframes and what is said about the way between them.

    first, last: (3, H, W) in [-1, 1], float32 on the CPU.
    num_frames: F, both keyframes included.
    """

    first: Tensor
    last: Tensor
    text: str
    negative_prompt: str
    seed: int
    num_frames: int


class TransitionRenderer(Protocol):
    """Renders the clip of a transition; the same transition gives the same frames every time."""

    @property
    def max_frames(self) -> int:
        """The longest clip that the models can render, in frames."""

    def smaller(self) -> Self:
        """The same renderer on the same models, with less memory."""

    def __call__(self, transition: Transition) -> Tensor:
        """Frames (F, 3, H, W) in [-1, 1], float32 on the CPU.

        The ends are the models' own versions of the keyframes, which are still to be put there.

        Raises:
            ValueError: the models cannot render this length or size.
        """
