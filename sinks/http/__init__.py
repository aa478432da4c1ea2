"""The HTTP service: pictures that somebody sends, and what can be asked of the process."""
