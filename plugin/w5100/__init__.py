"""The chip: driver and emulator of the WIZnet W5100. Knows nothing of mail."""
