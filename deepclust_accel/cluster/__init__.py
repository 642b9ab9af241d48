"""Gradient-free solvers over rows that may lie on several ranks: k-means, and matching of two labelings."""

from .kmeans import KMeansResult, kmeans
from .match import match_clusters

__all__ = ["KMeansResult", "kmeans", "match_clusters"]
