"""Number formats, quantisation, rounding and counter-based random bits."""
