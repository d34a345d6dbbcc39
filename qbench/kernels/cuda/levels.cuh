// Codes of a grid of levels: how many of the ascending thresholds lie below a value.
#include "types.cuh"

const int MOST_THRESHOLDS = 255;

struct Thresholds {
    const float* values;
    int count;

    // Copies the thresholds to shared memory; every thread of the block takes part.
    DEVICE Thresholds(const float* source, i64 count_, float* shared) : values(shared), count((int)count_) {
        for (int i = threadIdx.x; i < count; i += blockDim.x) shared[i] = source[i];
        __syncthreads();  // all thresholds are there
    }

    // NaN is above all of them.
    DEVICE u8 code_of(float value) const {
        int low = 0, high = count;
        while (low < high) {
            const int middle = (low + high) / 2;
            if (value <= values[middle])
                high = middle;
            else
                low = middle + 1;
        }
        return (u8)low;
    }
};
