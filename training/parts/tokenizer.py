"""The pocket family's vocabulary: byte-level BPE in CLIP's layout, of the world and of stories."""

import json
import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from storyreel.training.config import TokenizerConfig

MAX_LENGTH = 77
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
STORY_WORDS_REPEATED = 20

STORY_WORDS = tuple(
    re.findall(
        r"\w+",
        """
        a about above across after again all alone along always am an and animal another any are
        around as ask asked at ate away baby back bad bag ball be beautiful because bed before
        began behind below beside best better between big bird black book both box boy bread
        breakfast bridge bright bring broken brother brown build busy but by cake call came can
        cannot car careful carried carries carry castle catch chair child children city clean
        climb climbs clothes cloud cold come comes cook corner could country cried cries cup
        dance dances dark day days deep did dinner do does dog door down dream dreams dressed
        drink drop dry each early earth eat eats end enough even evening ever every everyone
        eyes face falls family far farm fast father feel feels feet fell felt few field fills
        find finds fine fire first fish flew flies floor flower flowers fly follow follows food
        foot for forest forever forgot found four free fresh friend friends from front fruit
        full funny game garden gave get gets gift girl give gives glad go goes gold golden gone
        good goodbye got grass great grew ground grow had hair hand hands happily happy hard has
        hat have he head hear heard hears heart heavy held hello help helps her here hide hides
        high hill him himself his hold holds hole home hope horse hot hour house how hug hungry
        hurry ice idea if in inside into is it its jacket jump jumped jumps just keep key kind
        king kitchen knew know knows lake land last late later laugh laughs lay lead leaf learn
        leave leaves left let letter light like lies lift listen little live lives long look
        looked looking looks lost lot loud love loves made magic make makes man many map market
        me meet meets met middle mind moon more morning mother mountain mouse mouth move much
        mud music must my name named near neighbour nest never new next nice night no noise nose
        not nothing now of off often old on once one only open opens or other our out outside
        over own paint paper park part past path people perhaps picture piece place plants play
        plays please pocket pond poor present pretty puddle pull puts queen question quick quiet
        quietly rain rains ran reach reaches read reads ready red rest rests ride right ring
        river road rock room round run running runs sad safe said same sand sang sat saw say
        says school sea second secret see sees seen sell send set shadow share she shines ship
        shirt shoes shop shore short should shout shows side sing sings sister sit sits sitting
        sky sleep sleeps sleepy slow slowly small smell smile smiles snow so soft some someone
        something song soon sound spring stand standing stands star stars start started stay
        steps still stone stood stop stops story stranger street strong summer sun sunny
        surprise sweet swim table tail take takes talk tall tea tell tells than thank that the
        their them then there these they thing things think thinks this thought three through
        throws time tired to today together told tomorrow too took top touch towards town toy
        train tree trees tried tries trousers true try turn turns two ugly umbrella under until
        up us very village visit voice wait waits wake wakes walk walked walking walks wall want
        wanted wants warm was watch watches water waves way we wear wearing wears weather well
        went were wet what wheel when where which while white who whole why wide wild will wind
        window winter wise wish with without woke woman wonder wonderful wood woods word work
        world would write wrote yard year years yellow yes yesterday you young your
        """,
    )
)
"""Common words of stories that the world's captions lack."""


def _byte_symbols() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _bpe(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


def train_tokenizer(captions: Iterable[str], config: TokenizerConfig) -> CLIPTokenizer:
    """Learn merges from captions and story words.

    Every byte is in the vocabulary, inside and at the end of a word, so no text is unknown.
    """
    symbols = [s + suffix for suffix in ("", "</w>") for s in _byte_symbols()]
    bpe = _bpe({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(_byte_symbols()),
        initial_alphabet=_byte_symbols(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator([*captions, *(STORY_WORDS * STORY_WORDS_REPEATED)], trainer)
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = [*symbols, *("".join(merge) for merge in merges)]
    vocab = {token: index for index, token in enumerate([*dict.fromkeys(tokens), BEGIN, END])}
    return CLIPTokenizer(
        vocab=vocab,
        merges=merges,  # type: ignore[arg-type]
        model_max_length=MAX_LENGTH,
    )
