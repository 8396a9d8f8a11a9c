"""What of a study's training enters the keys of networks."""

from lacewing.config import Train


def test_the_size_of_a_stack_enters_a_key_only_where_it_is_not_one():
    """Keys are older than stacks: networks trained one by one keep theirs, stacked networks have other bits."""
    alone, stacked = Train().identity(), Train(stack=4).identity()
    assert "stack" not in alone
    assert stacked == {**alone, "stack": 4}
