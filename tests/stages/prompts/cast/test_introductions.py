from storyreel.stages.prompts.cast.introductions import find_subjects


def test_prose_introduces_its_subjects() -> None:
    text = "A young fox lived by a pond. The fox was hungry. The fox ran. Grapes hung over the fox."
    (fox,) = find_subjects(text)
    assert (fox.name, fox.description) == ("the fox", "a young fox")


def test_things_that_do_not_act_are_no_subjects() -> None:
    assert find_subjects("A house stood there. He saw the house. He left the house.") == ()


def test_two_subjects_that_are_young_are_two() -> None:
    found = find_subjects("The young fox ran. A young man came. The young fox slept.")
    assert [(one.name, one.description) for one in found] == [
        ("the fox", "a young fox"),
        ("the man", "a young man"),
    ]


def test_a_subject_has_the_name_that_the_text_gives_it() -> None:
    text = "A little fox in a blue scarf named Rusty ran. There was a boy called Tim. Tim sang."
    assert [one.name for one in find_subjects(text.replace(" in a blue scarf", ""))] == [
        "Rusty",
        "Tim",
    ]
    (fox,) = find_subjects("A little fox in a blue scarf ran.")
    assert fox.description == "a little fox in a blue scarf"
