"""The languages of prose: their codes, and how one is told from a text's letters and words."""

import re
from collections import Counter

LANGUAGES = frozenset(
    {
        "am", "ar", "bg", "da", "de", "el", "en", "es", "fa", "fr", "hi", "hy", "it", "ja", "kk",
        "mr", "my", "nl", "pl", "ru", "sk", "ur", "zh",
    }
)  # fmt: skip
"""ISO 639-1 codes of the languages whose sentences are known."""

_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "zh": re.compile("[\u3400-\u9fff]"),
    "ar": re.compile("[\u0600-\u06ff]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "el": re.compile("[\u0370-\u03ff]"),
    "hy": re.compile("[\u0530-\u058f]"),
    "am": re.compile("[\u1200-\u137f]"),
    "my": re.compile("[\u1000-\u109f]"),
}
# Words that a text of the language can hardly do without, and the others do not have.
_WORDS = {
    "en": "the and of was is he she they with had said his her it that for on",
    "de": "der das und ein eine er sie ist nicht mit dem den auf von zu sich",
    "fr": "le les une et il elle est était dans avec pas sur au du des qui sa son",
    "es": "el los las una y ella era está en con por para del al que su se",
    "it": "il gli una e lei era nel con per del della che suo si non di",
    "nl": "de het een en hij zij was niet met op van voor dat zijn",
    "pl": "w na się nie jest był była że jak ale",
    "da": "og en et han hun var ikke med på det til der",
}
_SAMPLE = 4_000
_WORD = re.compile(r"[^\W\d_]+")


def detect_language(text: str) -> str | None:
    """The code of a text's language; `None` if nothing tells it."""
    sample = text[:_SAMPLE]
    letters = sum(map(str.isalpha, sample))
    for code, script in _SCRIPTS.items():
        share = len(script.findall(sample)) / max(1, letters)
        if share > (0.1 if code == "ja" else 0.4):
            return code
    words = Counter(_WORD.findall(sample.lower()))
    counts = {code: sum(words[word] for word in common.split()) for code, common in _WORDS.items()}
    best = max(counts, key=lambda code: (counts[code], code == "en"))
    # One word alone may be a name.
    least = 1 if best == "en" else 2
    return best if counts[best] >= least else None
