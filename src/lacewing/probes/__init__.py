"""Questions to a network that cost more than a few queries: the distance to its decision boundary, its layers."""

from lacewing.probes._boundary import QUERIES, Distances, boundary
from lacewing.probes._layers import layer_features

__all__ = ["QUERIES", "Distances", "boundary", "layer_features"]
