"""Looks into layers, for people. Changes nothing, and nothing is made of what it says."""
