"""What holds projects: one file for each kind of source."""
