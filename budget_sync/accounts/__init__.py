"""Accounts: people with passwords and sessions, and services with API keys."""
