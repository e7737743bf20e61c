"""Copying, replacing, migrating and checking whole databases."""
