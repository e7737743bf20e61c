"""The HTTP server below WSGI, on top of gunicorn."""
