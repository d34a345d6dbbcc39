"""Summaries over seeds and paired differences."""
