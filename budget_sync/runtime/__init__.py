"""Process-wide services that every layer may use: cooperative waiting, request ids, files."""
