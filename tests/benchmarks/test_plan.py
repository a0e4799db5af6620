"""The benchmark of plans: what it says of an interval is so."""

import json
import math
import random
from pathlib import Path

import pytest

from benchmarks.plan import Outcome, hold
from storyreel.stages.output.storage import Output
from tests.flows.inline import lay_out, render_inline
from tests.records import commit_records, replace_record


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A finished job of forty stories."""
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 40)
    render_inline(output)
    return output


def take(output: Output, spread: float, slower: float = 1.0) -> None:
    """Let units take about a second, by chance; those of the last ten stories are slower."""
    chance = random.Random(1)
    for path, content in commit_records(Path(output.url)).items():
        factor = slower if Path(path).name >= "s030" else 1.0
        seconds = factor * math.exp(chance.gauss(0, spread))
        changed = json.dumps(json.loads(content) | {"seconds": seconds})
        replace_record(Path(output.url), path, changed)


def motion(output: Output, sample_size: int) -> Outcome:
    return hold(output, sample_size, draws=300)["motion"]


def test_where_units_differ_by_chance_alone_the_interval_holds_in_nine_of_ten(
    output: Output,
) -> None:
    take(output, spread=0.3)
    outcome = motion(output, 4)
    assert 0.8 <= outcome.held <= 1
    assert outcome.median_error < 0.15


def test_a_larger_sample_makes_a_narrower_interval(output: Output) -> None:
    take(output, spread=0.3)
    assert motion(output, 16).median_width < 0.7 * motion(output, 4).median_width


def test_where_whole_stories_are_slower_the_interval_is_seen_to_hold_less_often(
    output: Output,
) -> None:
    take(output, spread=0.01, slower=20)
    assert motion(output, 2).held < 0.7
