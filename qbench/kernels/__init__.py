"""Integer arithmetic on tensors of codes, and random bits.

Public functions: :mod:`products`, :mod:`line_gradient`, :mod:`encoding`, :mod:`passes`, :mod:`direct`, :mod:`bounded`,
:mod:`blocks`, :mod:`updates`, :mod:`packing`, :mod:`pooling`, and :mod:`random`. But for the last, each is a PyTorch
operator (:mod:`library`) with several implementations (:mod:`backends`) that give the same integers: ``reference`` in
plain torch, ``cpu`` in C++, ``cuda``, ``numba`` loops and ``onednn``. Importing any of it computes nothing.
"""
