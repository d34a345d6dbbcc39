// All loops of one instruction set, and the table of them. Included inside its namespace.
#pragma once

// clang-format off: the order matters
#include "loops_groups.h"
#include "random.h"
#include "loops_encode.h"
#include "loops_view.h"
#include "loops_statistics.h"
#include "loops_direct.h"
#include "loops_bounded.h"
#include "loops_levels.h"
#include "loops_update.h"
#include "loops_pool.h"
// clang-format on

const Loops LOOPS = {
    Vector::GROUP * Vector::WIDTH,
    encode,          encode_flag,     decode,     extremes,          apply_mask, rectify, join_gradients,
    view,            gradient_extremes, encode_gradient, level_gradient, column_ends, column_statistics,
    moments,         gradient_sums,   encode_levels, look_up,        encode_at,  sgd,
    adam,            decayed,         momentum,   subtract_steps, max_pool_backward, pool_keys,  pool_bytes,
    pool_floats,     encode_direct,   direct_view,     direct_sums, direct_gradient,
    bounded_values,  encode_bounded,  bounded_error_extremes, encode_bounded_error,
};
