"""Corpora, manifests, batches and the Lightning data module."""
