"""Who asks, what they may do, and what wrong logins cost."""
