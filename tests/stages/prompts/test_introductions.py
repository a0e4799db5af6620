from storyreel.stages.prompts.introductions import find_subjects


def test_prose_introduces_its_subjects() -> None:
    text = "A young fox lived by a pond. The fox was hungry. The fox ran. Grapes hung over the fox."
    (fox,) = find_subjects(text)
    assert (fox.name, fox.description) == ("the fox", "a young fox")


def test_things_that_do_not_act_are_no_subjects() -> None:
    assert find_subjects("A house stood there. He saw the house. He left the house.") == ()
    assert find_subjects("The young fox ran. A young man came. The young fox slept.") == ()
