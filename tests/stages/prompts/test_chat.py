"""A chat model of random weights: held to the schema, even it must answer with a panel."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.stages.prompts.builders import character, story
from tests.stages.prompts.conftest import MakeStage
from tests.stages.tiny_chat import save_tiny_chat

ANN = character("Ann", "a girl in a red coat")


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_chat(tmp_path_factory.mktemp("chat")))


def test_a_chat_model_describes_every_panel_and_the_captions_stay(
    make_stage: MakeStage, chat_model: str
) -> None:
    stage = make_stage(
        chat={"model": {"path": chat_model}, "max_new_tokens": 200, "max_picture_chars": 40}
    )
    told = story(text="Ann runs in the park. She sits.", characters=(ANN,))
    (board,) = stage(told)
    assert {p.splitter for p in board.panels} == {"chat"}
    assert [p.caption for p in board.panels] == ["Ann runs in the park.", "She sits."]
    assert board.panels[0].prompt != "a girl in a red coat runs in the park"
    (again,) = stage(told)
    assert again == board


def test_an_answer_cut_short_falls_back_to_the_rules_with_the_reason(
    make_stage: MakeStage, chat_model: str, tmp_path: Path
) -> None:
    stage = make_stage(chat={"model": {"path": chat_model}, "max_new_tokens": 16})
    (board,) = stage(story(text="Ann runs. Ann sits down.", characters=(ANN,)))
    assert board.panels[0].prompt == "a girl in a red coat runs"
    assert board.panels[0].splitter.startswith("rules (chat failed: ")
    assert any("chat failed" in warning for warning in board.panels[0].warnings)


def test_a_model_that_cannot_run_is_a_failure_and_not_an_answer(
    make_stage: MakeStage, chat_model: str, tmp_path: Path
) -> None:
    AutoTokenizer.from_pretrained(chat_model).save_pretrained(tmp_path)
    # Fewer embeddings than tokens: an index error here, an assert of the device on a GPU.
    config = LlamaConfig.from_pretrained(chat_model, vocab_size=8, eos_token_id=7, pad_token_id=7)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    stage = make_stage(chat={"model": {"path": str(tmp_path)}})
    with pytest.raises(IndexError, match="index out of range"):
        stage(story(text="Ann runs.", characters=(ANN,)))
