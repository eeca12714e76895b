"""Measurements. Nothing here is a test: a figure depends on the machine that it was taken on."""
