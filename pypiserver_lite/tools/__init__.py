"""Verbs that work on sources, stores and files of ours; the command line shows what they do."""
