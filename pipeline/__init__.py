"""Frames become results here, on one inference thread."""
