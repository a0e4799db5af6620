"""The interface of renderers of the frames between two keyframes.

Axes: F frames, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Two keyframes and what is said about the way between them.

    first, last: (3, H, W) in [-1, 1], float32 on the CPU.
    num_frames: F, both keyframes included.
    guidance_scale: of this transition; `None`: the configuration's.
    """

    first: Tensor
    last: Tensor
    text: str
    negative_prompt: str
    seed: int
    num_frames: int
    guidance_scale: float | None = None


class TransitionRenderer(Protocol):
    """Renders the clips of transitions; the same transition gives the same frames every time."""

    @property
    def max_frames(self) -> int:
        """The longest clip that the models can render, in frames."""

    def smaller(self) -> Self:
        """The same renderer on the same models, with less memory."""

    def __call__(self, transitions: Sequence[Transition]) -> list[Tensor]:
        """Frames (F, 3, H, W) in [-1, 1] of each transition, float32 on the CPU.

        All are of one size, length and guidance; each clip is as if it were rendered alone. The
        ends are the models' own versions of the keyframes, which are still to be put there.

        Raises:
            ValueError: the models cannot render this length or size.
        """


def check_alike(transitions: Sequence[Transition]) -> None:
    """Check what the transitions of one call must share.

    Raises:
        ValueError: they differ in size, length or guidance.
    """
    shared = {
        (*one.first.shape, *one.last.shape, one.num_frames, one.guidance_scale)
        for one in transitions
    }
    if len(shared) != 1:
        raise ValueError(f"transitions of one call differ in size, length or guidance: {shared}")
