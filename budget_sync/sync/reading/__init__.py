"""How a sheet is read: proposed by `detect`, confirmed by a person, followed by `apply`. Pure."""
