"""Reviews a running vision service from outside; `scripts.check_service` is its command."""
