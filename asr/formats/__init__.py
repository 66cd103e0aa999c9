"""Transcripts as files that other programs read."""
