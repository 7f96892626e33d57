"""The simple repository API, both ways: which form a client wants, pages made, pages read."""
