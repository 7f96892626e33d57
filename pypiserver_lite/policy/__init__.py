"""What may be asked for, and of whom."""
