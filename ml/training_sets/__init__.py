"""Versioned training sets of the execution domain: cut, published once, never changed, trained on."""
