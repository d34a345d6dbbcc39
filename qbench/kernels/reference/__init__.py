"""The kernels in plain torch operations (float64 sums, int64 integers): slow, obviously right, on any device.

Every other implementation has functions of the same names and signatures and must give the same integers.
"""
