"""The settings of scoring; none of them shapes a pixel."""

from pydantic import Field

from storyreel.stages.models.config import ModelConfig, PartConfig
from storyreel.stages.settings import Settings


class ScoringConfig(Settings):
    """Settings of scoring: the CLIP model, and the thresholds for copies and static clips.

    Any CLIP in the layout of transformers will do. For weights of one piece, such as
    openai/clip-vit-large-patch14, set `model.path` and every part's `subfolder` to "".
    """

    model: ModelConfig = ModelConfig()
    text_encoder: PartConfig = PartConfig(subfolder="text_encoder")
    tokenizer: PartConfig = PartConfig(subfolder="tokenizer")
    image_encoder: PartConfig = PartConfig(subfolder="image_encoder")
    feature_extractor: PartConfig = PartConfig(subfolder="feature_extractor")
    truth_estimator: PartConfig | None = None
    """Estimator of who a picture shows, doing what, where and in which clothes. There is one for
    the pocket world; default: nothing is estimated."""
    masks: str | None = None
    """Folder or URL with a grey PNG `STORY/0000.png` for each keyframe, white where its characters
    are; they are cut out before they are compared. Where there is none, the whole picture counts.
    """
    batch_size: int = Field(default=16, ge=1)
    """Pictures or texts that the encoder sees at once."""
    copy_share: float = Field(default=0.7, gt=0, le=1)
    """Two panels with different prompts are copies if they share this much of their pictures."""
    static_level: float = Field(default=6.0, gt=0, le=255)
    """Grey levels; a clip whose liveliest parts change by less from frame to frame is static."""
