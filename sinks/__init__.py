"""Results leave here, on one sink thread."""
