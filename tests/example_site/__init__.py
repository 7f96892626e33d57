"""An index of one's own: a page more, a home page and colours of its own, everything else as it comes."""
