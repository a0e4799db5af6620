import pytest
from pysbd.languages import LANGUAGE_CODES

from storyreel.stages.languages import LANGUAGES, detect_language


def test_all_languages_have_rules_for_sentences() -> None:
    assert set(LANGUAGE_CODES) == LANGUAGES


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A fox ran home. The fox was old.", "en"),
        ("Mr. Brown walked to town.", None),
        ("小明走进森林。他看见一只狐狸。", "zh"),
        ("太郎は川へ行きました。", "ja"),
        ("Der Fuchs lief in den Wald. Er war müde und schlief.", "de"),
        ("Le renard est dans la forêt. Il dort sur une pierre.", "fr"),
        ("El zorro corrió por el bosque. Ella no estaba en casa.", "es"),
        ("ذهب الثعلب إلى الغابة.", "ar"),
        ("लोमड़ी जंगल में गई। वह सो गई।", "hi"),
        ("Лиса побежала в лес.", "ru"),
        ("", None),
    ],
)
def test_a_language_is_told_by_letters_and_words(text: str, language: str | None) -> None:
    assert detect_language(text) == language
