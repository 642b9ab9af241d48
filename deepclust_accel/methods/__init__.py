"""Clustering methods, each a plugin behind the entry-point group ``deepclust_accel.methods``."""
