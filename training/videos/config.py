"""The videos that a motion predictor learns from."""

from pydantic import Field, PositiveInt

from storyreel.training.config import Section


class VideosConfig(Section):
    """Which clips are cut out of the videos, and where their captions are."""

    num_frames: int = Field(default=16, ge=4)
    """Frames of a clip."""
    fps: int = Field(default=8, ge=1, le=60)
    """Frames of a clip a second; faster videos are thinned, slower ones left out."""
    size: PositiveInt = 256
    """Side of the square that is cut out of the middle of each frame, in pixels."""
    path_column: str = "path"
    """Of a Parquet table: addresses of the videos, absolute or relative to the table."""
    caption_column: str = "caption"
    """Of a Parquet table. A video of a folder has its caption in NAME.txt beside it."""
    cut_threshold: float = Field(default=30.0, gt=0, le=255)
    """Mean difference of neighbouring frames, in grey levels, from which on there is a cut."""
    max_clips_per_video: PositiveInt = 16
    """So that a few long videos do not outweigh all others."""
    held_out_share: float = Field(default=0.05, gt=0, le=0.5)
    """Share of the videos that no step learns from; at least one video."""
    videos_per_shard: PositiveInt = 64
    """Videos whose clips are encoded to one file."""
