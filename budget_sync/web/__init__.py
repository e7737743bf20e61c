"""HTTP: requests become actors and models, verbs are called, and what they answer or refuse becomes JSON."""
