"""Frames come in here: readers, one capture thread and one bounded queue a source."""
