"""Mail: the SMTP client side (RFC 5321) over any Stream. Knows nothing of alerts or chips."""
