// Rows normalised on a direct grid, seen through a view.
#include "view.cuh"

// The code of x on a grid of `steps` steps per unit, within +-top; NaN stays.
DEVICE float on_grid(float x, float steps, float top) {
    const float code = rintf(multiply(x, steps));
    return is_nan(code) ? code : fminf(fmaxf(code, -top), top);
}

struct Direct {
    float z, t, value;
};

// The vectors of N neighbouring channels, and the grid.
template <int N> struct DirectChannels {
    float mean[N], inverse[N], slope[N], offset[N], unit, top;

    DEVICE Direct of(float x, int j) const {
        Direct result;
        result.z = multiply(subtract(x, mean[j]), inverse[j]);
        result.t = on_grid(result.z, unit, top);
        result.value = linear_view(result.t, slope[j], offset[j]);
        return result;
    }
};
