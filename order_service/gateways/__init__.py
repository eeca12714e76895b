"""The outside, translated."""
