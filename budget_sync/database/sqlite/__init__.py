"""Code that only SQLite needs."""
