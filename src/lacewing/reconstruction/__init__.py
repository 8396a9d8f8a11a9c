"""What can be rebuilt of training records from a network's weights."""

from lacewing.reconstruction._layer import first_layer

__all__ = ["first_layer"]
