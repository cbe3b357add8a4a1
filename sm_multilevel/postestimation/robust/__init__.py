"""Cluster-robust covariances."""
