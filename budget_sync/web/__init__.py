"""The Flask layer: JSON API, console, API documentation, metrics and request logging."""
