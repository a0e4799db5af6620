"""The card of a trained predictor: what it learned from, how good it is, how to use it."""

from collections.abc import Sequence

from storyreel.stages.models.config import model_revision
from storyreel.training.motion.config import MotionTrainingConfig, Objective
from storyreel.training.motion.run import Trained
from storyreel.training.videos.index import IndexedVideo

LEARNED = {
    Objective.SEMANTIC: "the error of the true frames' tokens of the image encoder",
    Objective.PAPER: "the error of the video model's frames, through which the predictor learned",
}


def card(
    config: MotionTrainingConfig, index: Sequence[IndexedVideo], url: str, trained: Trained
) -> str:
    """A README.md in the form of model cards."""
    model = config.models.model
    clips = sum(len(video.starts) for video in index)
    usable = sum(bool(video.starts) for video in index)
    better = 1 - trained.error.predicted / max(trained.error.interpolated, 1e-12)
    parts = "a Semantic Motion Predictor"
    if config.objective is Objective.PAPER:
        parts += " and its motion adapter"
    videos, error = config.videos, trained.error
    return f"""\
---
library_name: storyreel
tags: [storydiffusion, semantic-motion-predictor, image-to-video]
---

# {parts[2:]}

For `{model.path}` (revision `{model_revision(model.path, model.revision)}`) and the image encoder
beside it; other models are refused.

- Learned: {trained.num_steps} steps on {clips} clips of {usable} videos at `{url}`, each of
  {videos.num_frames} frames at {videos.fps} a second. Whether the videos may be used for that is
  for whoever trains and publishes to judge.
- Objective: {LEARNED[config.objective]}.
- Held-out videos: mean squared error of the tokens between the keyframes {error.predicted:.4g},
  of linear interpolation {error.interpolated:.4g}; {better:.0%} better.

```toml
[motion.renderer]
kind = "semantic_motion"

[motion.renderer.motion_predictor]
path = "THIS FOLDER"
subfolder = "motion_predictor"
```
"""
