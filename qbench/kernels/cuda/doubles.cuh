// Float64 arithmetic, each operation rounded by itself.
#include "types.cuh"

DEVICE double add(double a, double b) { return __dadd_rn(a, b); }
DEVICE double subtract(double a, double b) { return __dsub_rn(a, b); }
DEVICE double multiply(double a, double b) { return __dmul_rn(a, b); }
DEVICE double divide(double a, double b) { return __ddiv_rn(a, b); }
