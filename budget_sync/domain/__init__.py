"""Pure values and rules: money, periods, permissions, errors. Nothing here does I/O."""
