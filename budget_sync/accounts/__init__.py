"""People, their passwords and sessions, and API keys."""
