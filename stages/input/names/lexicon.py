"""Knows the words of English: parts of speech, and who is a person or an animal.

The parts of speech come from the lexicon that the package `textblob` ships: 94,000 words with the
tag of the Penn Treebank that each has most often. It is read as data; the package is not imported.
"""

import importlib.util
import re
from functools import lru_cache
from pathlib import Path

_MALE = """
    boy man king prince father grandfather grandpa brother son uncle nephew lad gentleman lord duke
    monk priest husband wizard sorcerer knight knave squire fisherman woodcutter woodman shepherd
    miller smith blacksmith butcher carpenter sailor soldier captain emperor fellow sir mr mister
    grandson stepson godfather widower host waiter actor hero landlord rooster cock bull stallion
    ram stag billy drake gander tomcat buck ox gnome dwarf male daddy dad papa clergyman policeman
    fireman businessman postman snowman salesman huntsman nobleman count baron pharaoh
"""
_FEMALE = """
    girl woman lady queen princess mother grandmother grandma granny sister daughter aunt niece lass
    maid maiden milkmaid wife witch sorceress duchess empress nun bride widow hostess waitress
    actress heroine landlady hen cow mare ewe doe goose vixen lioness tigress female mum mom mama
    mrs miss ms madam madame stepmother stepsister granddaughter nurse fairy mermaid housewife
    shepherdess countess baroness goddess
"""
_PEOPLE = """
    child baby kid toddler person people folk friend neighbor neighbour stranger traveler traveller
    baker farmer keeper hunter fisher cook chef doctor teacher pupil student artist painter dancer
    singer musician writer poet reader scientist engineer astronaut pilot driver worker servant
    master merchant trader thief robber beggar guard warrior giant ogre elf goblin troll angel ghost
    robot pirate clown gardener cobbler shoemaker tailor weaver potter builder mason judge mayor
    philosopher astrologer physician trumpeter porter villager citizen townsman charcoal-burner
    fuller rider player runner swimmer climber walker photographer detective inventor librarian
    vendor seller peddler owner guest visitor passer-by cousin parent twin orphan hermit prophet
    wife companion leader chief ruler tyrant slave apprentice clerk crew miser youth elder
    satyr nymph monster alien creature spirit demon devil god
"""
_ANIMALS = """
    animal beast bird fish insect fox wolf dog puppy hound cat kitten mouse rat bear cub rabbit hare
    lion tiger leopard panther elephant monkey ape gorilla horse pony colt donkey ass mule goat kid
    sheep lamb pig piglet boar calf deer fawn squirrel hedgehog badger weasel otter beaver mole
    bat frog toad turtle tortoise snake serpent viper lizard crocodile dragon unicorn crow raven
    jackdaw jay magpie owl eagle hawk kite falcon vulture stork crane heron swan duck duckling chick
    chicken turkey peacock pigeon dove sparrow swallow nightingale robin lark thrush starling
    woodpecker gull seagull penguin parrot cuckoo partridge bee wasp ant grasshopper beetle
    butterfly caterpillar fly gnat mosquito spider worm snail slug crab lobster oyster octopus whale
    dolphin shark seal salmon trout carp pike eel camel giraffe zebra hippo hippopotamus rhinoceros
    kangaroo koala panda raccoon skunk porcupine moose reindeer buffalo bison hyena jackal gnu
    dinosaur goldfish ladybug firefly cricket moth
"""
_IRREGULAR_PLURALS = {
    "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose",
    "oxen": "ox", "wolves": "wolf", "wives": "wife", "thieves": "thief", "calves": "calf",
    "elves": "elf", "dwarves": "dwarf", "people": "person", "fishermen": "fisherman",
    "flies": "fly", "deer": "deer",
}  # fmt: skip
_MALE_NAMES = """
    tom tim john jack james jim bob bill will william harry henry george peter paul ben benjamin sam
    samuel max leo oliver noah liam ethan lucas mason logan david daniel michael mike joseph joe
    thomas charles charlie edward ned ted albert arthur frank fred frederick hans karl otto fritz
    emil felix oscar hugo louis luis pedro juan carlos jose diego pablo marco luca ivan boris igor
    ahmed ali omar hassan yusuf taro kenji hiroshi ken wei ming raj arjun bruno rex rusty duke buddy
    dan rob robert richard dick mark luke adam alex andrew tony simon stephen steve martin philip
    walter ray roy carl kevin brian eric gary jacob nathan ryan theo finn
"""
_FEMALE_NAMES = """
    ann anna anne annie mary maria marie jane alice emma olivia ava mia sophia sophie ella lily
    grace chloe lucy lily lena lisa laura julia julie kate katie katherine catherine elizabeth eliza
    beth betty susan sue sarah sara rachel rebecca ruth rose may june joy hope faith daisy violet
    ivy helen ellen eva eve clara nora zoe zoë amy emily hannah ida greta gretel heidi ingrid elsa
    olga nina natasha tanya fatima aisha layla yuki hana sakura mei lin priya anita mimi bella luna
    molly polly sally dolly nancy peggy margaret maggie martha dora flora stella carmen rosa isabel
    lucia elena sofia camille claire amelie cinderella goldilocks martha mother
"""


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


MALE, FEMALE, PEOPLE, ANIMALS = map(word_set, (_MALE, _FEMALE, _PEOPLE, _ANIMALS))
_GENDERS = {
    **dict.fromkeys(word_set(_MALE_NAMES), "male"),
    **dict.fromkeys(word_set(_FEMALE_NAMES), "female"),
}
# Nouns of persons that no list can hold: "fishmonger", "swineherd", "beekeeper".
_PERSON_ENDING = re.compile(r".+(?:man|woman|boy|girl|keeper|maker|seller|monger|herd|smith|ist)$")


def is_male(noun: str) -> bool:
    """True if a noun means a boy, a man or a male animal."""
    return noun in MALE or (noun.endswith("man") and not noun.endswith("woman"))


def is_female(noun: str) -> bool:
    """True if a noun means a girl, a woman or a female animal."""
    return noun in FEMALE or noun.endswith("woman")


def is_person(noun: str) -> bool:
    """True if a noun means a person."""
    gendered = (noun in MALE or noun in FEMALE) and noun not in _BEASTS
    return gendered or noun in PEOPLE or bool(_PERSON_ENDING.fullmatch(noun))


_ALSO_VERBS = word_set(
    "jump wave smile cry dance laugh play sleep dream shout whisper dash race step hop leap paint"
    " cook water plant hunt fish work rest sail climb walk run swim stop start look talk call race"
    " march bow kiss hug nod sigh yawn guard watch gasp roar growl bark cheer drink fight return"
    " visit answer knock help love hope cover circle land crash fall slip trip hide shake"
)
_BEASTS = word_set(
    """
    rooster cock bull stallion ram stag drake gander tomcat buck ox hen cow mare ewe doe goose
    vixen lioness tigress
    """
)


def is_animate(noun: str) -> bool:
    """True if a noun means a person or an animal."""
    return is_person(noun) or noun in ANIMALS or noun in _BEASTS


def gender_of_name(name: str) -> str | None:
    """`male` or `female`, if a first name is known as that of one gender."""
    return _GENDERS.get(name.lower())


def singular(noun: str) -> str:
    """The singular of an English noun; a noun that is singular stays as it is."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if re.search(r"(?:[sxz]|[cs]h)es$", noun):
        return noun[:-2]
    if noun.endswith("s") and not noun.endswith(("ss", "us", "is")):
        return noun[:-1]
    return noun


def is_plural(noun: str) -> bool:
    """True if a noun in lower case is a plural."""
    return noun in _IRREGULAR_PLURALS or (singular(noun) != noun and not is_animate(noun))


def tag_of(word: str) -> str:
    """The tag that a word has most often, such as `NN` or `VBD`; by its ending if it is unknown."""
    known = _lexicon()
    tag = known.get(word.lower()) or known.get(word)
    if tag is None:
        endings = {"ed": "VBD", "ing": "VBG", "ly": "RB"}
        tag = next((t for end, t in endings.items() if word.lower().endswith(end)), "NN")
    return tag


def is_noun(word: str) -> bool:
    """True if a word is most often a noun."""
    return tag_of(word).startswith("NN") or is_animate(singular(word.lower()))


def is_known_noun(word: str) -> bool:
    """True if a word is a noun of English, and not one that nobody knows."""
    known = _lexicon()
    return (known.get(word.lower()) or known.get(word) or "").startswith("NN")


def is_verb(word: str) -> bool:
    """True if a word is most often a verb; `jumps` is one, though a noun just as well."""
    tag = tag_of(word)
    if tag.startswith(("VB", "MD")):
        return True
    stem = singular(word.lower())
    if stem == word.lower() or is_animate(stem):
        return False
    return stem in _ALSO_VERBS or tag_of(stem).startswith("VB")


@lru_cache(maxsize=1)
def _lexicon() -> dict[str, str]:
    found = importlib.util.find_spec("textblob")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "en" / "en-lexicon.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ")[:2] for line in lines if line.count(" ") == 1)
