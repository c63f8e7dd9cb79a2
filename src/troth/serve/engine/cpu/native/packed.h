// Packed weights and rows of activations. A weight [outputs, inputs] lies in panels of 64 outputs; a panel is one run
// of memory that is read once from front to back, four vectors at a time, each with one word of 16 outputs. A word is
// 4 bytes: one float32, two bfloat16 or four 8-bit numbers.
#pragma once
#include "simd.h"

namespace troth {

// Of weights all but WIDE_INT8 and WIDE_FP8, of keys and values the first three and these two, which are 8-bit numbers
// widened like WIDE, one in a word: a vector then has 16 bytes. MXFP4 are the 4-bit floats of OCP Microscaling Formats
// 1.0, their sign in the highest bit.
enum Kind : int32_t { F32 = 0, PAIRS = 1, WIDE = 2, INT8 = 3, INT4 = 4, WIDE_INT8 = 5, WIDE_FP8 = 6, MXFP4 = 7 };

constexpr bool is_float(int kind) { return kind <= WIDE; }
constexpr bool is_byte(int kind) { return kind == WIDE_INT8 || kind == WIDE_FP8; }
constexpr bool rows_are_float(int kind) { return kind == F32 || kind == WIDE || is_byte(kind); }
constexpr int word_bytes(int kind) { return is_byte(kind) ? 1 : 4; }
constexpr int word_inputs(int kind) { return kind == PAIRS || kind == WIDE ? 2 : 1; }

constexpr int PANEL = 64, GROUP = 32;

struct Adapter;

struct Matrix {
    const char *data;  // panels; of whole numbers and MXFP4 each group of inputs is followed by its 64 scales in float16
    const float *bias;  // or null
    const Adapter *adapters;  // each adapter's part in it by the adapter's number, or null
    int32_t kind, outputs, inputs, unused;

    int panels() const { return (outputs + PANEL - 1) / PANEL; }
    size_t panel_bytes() const {
        size_t per_input = kind == F32 ? 4 * PANEL : 2 * PANEL;
        size_t per_group = (kind == INT8 ? GROUP * PANEL : GROUP * PANEL / 2) + 2 * PANEL;
        return is_float(kind) ? size_t(inputs) * per_input : size_t(inputs / GROUP) * per_group;
    }
    const char *panel(int i) const { return data + size_t(i) * panel_bytes(); }
};

// Rows of activations as one kind of weight wants them: float32 for F32 and WIDE, bfloat16 for PAIRS, else 8-bit
// numbers with a scale and a sum for each group of 32, and where ROWS_ARE_WIDENED once more in 16 bits behind them.
struct Rows {
    char *words = nullptr;
    float *scales = nullptr;
    int32_t *sums = nullptr;
    size_t stride = 0;  // bytes of a row
    int groups = 0;     // of a row

    const int32_t *row(int i) const { return reinterpret_cast<const int32_t *>(words + size_t(i) * stride); }

    int16_t *widened(int i) const { return reinterpret_cast<int16_t *>(words + size_t(i) * stride + groups * GROUP); }

    // Four of the 8-bit numbers of row i, from the 4 * `word`-th on, for INT8.
    FourBytes four(int i, int word) const {
        return four_bytes(row(i) + (ROWS_ARE_WIDENED ? groups * (GROUP / 4) + 2 * word : word));
    }

    // Puts 32 numbers at place `at` of row i.
    void put32(int kind, int i, int at, Floats a, Floats b) const {
        char *row = words + size_t(i) * stride;
        if (rows_are_float(kind)) {
            store(reinterpret_cast<float *>(row) + at, a);
            store(reinterpret_cast<float *>(row) + at + 16, b);
        } else if (kind == PAIRS) {
            store_bf16(reinterpret_cast<uint16_t *>(row) + at, a);
            store_bf16(reinterpret_cast<uint16_t *>(row) + at + 16, b);
        } else {
            float most = largest_of(max(abs(a), abs(b)));
            Floats inverse = broadcast(most > 0 ? 127.f / most : 0.f);
            Ints p = to_ints(a * inverse), q = to_ints(b * inverse);
            store_int8(row + at, p);
            store_int8(row + at + 16, q);
            if constexpr (ROWS_ARE_WIDENED) {
                store_widened(widened(i) + at, p);
                store_widened(widened(i) + at + 16, q);
            }
            scales[size_t(i) * groups + at / GROUP] = most / 127.f;
            sums[size_t(i) * groups + at / GROUP] = sum_of(plus(p, q));
        }
    }

    // Puts a row of `size` numbers, a multiple of 32.
    void put(int kind, int i, const float *x, int size) const {
        for (int at = 0; at < size; at += 32) put32(kind, i, at, load(x + at), load(x + at + 16));
    }
};

}  // namespace troth
