"""Time of compiled networks on the machine at hand: against other engines, and call by call."""
