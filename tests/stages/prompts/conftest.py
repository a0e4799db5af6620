import json
from collections.abc import Callable
from pathlib import Path

import pytest

from storyreel.stages.input.config import InputConfig
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.prompts.config import PromptsConfig
from storyreel.stages.prompts.stage import PromptsStage
from tests.stages.prompts.builders import make_tokenizer

LIMITS = InputConfig()

MakeStage = Callable[..., PromptsStage]


@pytest.fixture(scope="session")
def make_stage(tmp_path_factory: pytest.TempPathFactory) -> MakeStage:
    """Stages on real tokenizers of the given limits, one for each text encoder."""

    def make(
        *tokens: int,
        num_frames: int = 16,
        fps: int = 8,
        limits: InputConfig = LIMITS,
        **settings: object,
    ) -> PromptsStage:
        path = tmp_path_factory.mktemp("model")
        index: dict[str, object] = {"_class_name": "StableDiffusionPipeline"}
        for name, limit in zip(("tokenizer", "tokenizer_2"), tokens or (1000,), strict=False):
            make_tokenizer(limit).save_pretrained(path / name)
            index[name] = ["transformers", "CLIPTokenizer"]
        Path(path / "model_index.json").write_text(json.dumps(index))
        return PromptsStage(
            config=PromptsConfig.model_validate({"reading_speed": 0, **settings}),
            model=ModelConfig(path=str(path)),
            num_frames=num_frames,
            fps=fps,
            still_s=1.5,
            limits=limits,
        )

    return make


@pytest.fixture(scope="session")
def stage(make_stage: MakeStage) -> PromptsStage:
    return make_stage()
