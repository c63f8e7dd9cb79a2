// Memory of a step, taken once.
#pragma once
#include <cstdlib>
#include <cstring>
#include <utility>

#include "matmul.h"

namespace troth {

inline int up_to(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

struct Buffer {  // zeroed, on a cache line
    char *data = nullptr;
    Buffer() = default;
    explicit Buffer(size_t bytes) : data(static_cast<char *>(std::aligned_alloc(64, (bytes + 127) / 64 * 64))) {
        std::memset(data, 0, (bytes + 127) / 64 * 64);
    }
    Buffer(Buffer &&other) noexcept : data(other.data) { other.data = nullptr; }
    Buffer &operator=(Buffer &&other) noexcept { return std::swap(data, other.data), *this; }
    ~Buffer() { std::free(data); }
    float *floats() const { return reinterpret_cast<float *>(data); }
};

struct RowsBuffer {
    Buffer words, scales, sums;
    Rows rows;
    RowsBuffer() = default;
    RowsBuffer(int count, int size) {
        size = up_to(size, GROUP);
        words = Buffer(size_t(count) * size * 4);
        scales = Buffer(size_t(count) * size / GROUP * 4);
        sums = Buffer(size_t(count) * size / GROUP * 4);
        rows = {words.data, scales.floats(), reinterpret_cast<int32_t *>(sums.data), size_t(size) * 4, size / GROUP};
    }
};

}  // namespace troth
