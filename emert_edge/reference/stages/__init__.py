"""The stages of a training run, each a Lightning module with its data: expressions, sessions, reactions."""
