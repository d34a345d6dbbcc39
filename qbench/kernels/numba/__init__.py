"""Encoding in loops that numba compiles, where the C++ library is missing: the reference's results, bit for bit.

Everything else of the CPU is left to the reference.
"""
