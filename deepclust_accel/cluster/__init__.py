"""Gradient-free solvers over rows that may lie on several ranks: k-means."""

from .kmeans import KMeansResult, kmeans

__all__ = ["KMeansResult", "kmeans"]
