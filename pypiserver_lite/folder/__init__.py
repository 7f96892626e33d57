"""Distributions in folders on this machine: what lies there, what is known of it, and how it is changed."""
