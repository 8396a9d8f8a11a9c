"""What of a study's training enters the keys of networks."""

import pytest

from lacewing.config import Train


def test_the_size_of_a_stack_enters_a_key_only_where_it_is_not_one():
    """Keys are older than stacks: networks trained one by one keep theirs, stacked networks have other bits."""
    alone, stacked = Train().identity(), Train(stack=4).identity()
    assert "stack" not in alone
    assert stacked == {**alone, "stack": 4}


@pytest.mark.parametrize("field", ["label_smoothing", "mixup", "dropout"])
def test_a_field_that_came_later_enters_a_key_only_where_it_is_not_its_default(field):
    assert field not in Train(**{field: 0.0}).identity()
    assert Train(**{field: 0.25}).identity() == {**Train().identity(), field: 0.25}
