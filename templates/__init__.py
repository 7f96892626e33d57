"""The human pages, one Bottle template a page; installed as ``pypiserver_lite.templates``."""
