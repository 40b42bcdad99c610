"""Memory planning: where every value lies, in which order nodes run, and which bytes of the arena they get."""
