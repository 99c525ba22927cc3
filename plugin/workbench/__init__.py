"""Looking at a chip by hand: its registers in words, its wiring, its network, and what goes over its bus."""
