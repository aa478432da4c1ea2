"""A generated conveyor belt: the scenes, and the bundled models that are trained on them."""
