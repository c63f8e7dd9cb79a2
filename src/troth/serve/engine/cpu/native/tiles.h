// A few rows times a panel of packed weights, with sums that stay in registers.
//
// bfloat16 weights are multiplied in one of two ways: with rows in bfloat16 by the processor's own products (PAIRS),
// or widened, with rows in float32 (WIDE). The first does twice as much at once on some processors (AMD since Zen 4),
// and half as much on others (Intel without AMX in use).
//
// Every output is one sum in the order of the inputs, in an accumulator of its own (8 and 4 bit: a sum of whole numbers
// for each 32 inputs, then these in order). So no result depends on how many rows are computed together.
#pragma once
#include <algorithm>

#include "packed.h"

// Before loops over sums: where GCC does not unroll them early, it keeps the sums in memory and not in registers.
#define UNROLL _Pragma("GCC unroll 8")

namespace troth {

constexpr int TILE = 6;      // rows that are multiplied at a time
constexpr int AHEAD = 24;    // words of a panel that are asked for before they are needed, where it comes from memory
constexpr int STRETCH = 32;  // words after which other columns' turn comes, where not all have room in registers

enum Fetch { HERE, AHEAD_OF, BESIDE };

// sum[row][vector] += the products of rows with `words` vectors of weights that lie `step` bytes apart. Meanwhile
// memory is asked for what comes AHEAD_OF these weights, or for what is needed later and lies `beside`.
template <int KIND, int ROWS, int VECTORS, Fetch FETCH>
inline void accumulate_at_once(
    Floats (&sum)[ROWS][VECTORS], const int32_t *const *rows, const char *const *weights, size_t step, int words,
    const char *beside
) {
    for (int w = 0; w < words; w++) {
        if constexpr (is_byte(KIND)) {
            Floats part[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++)
                part[v] = (KIND == WIDE_INT8 ? load_int8 : load_fp8_over_256)(weights[v] + step * w);
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = fma(part[v], number(rows[r][w]), sum[r][v]);
            continue;
        }
        if constexpr (FETCH == AHEAD_OF)
            UNROLL for (int v = 0; v < VECTORS; v++) __builtin_prefetch(weights[v] + step * (w + AHEAD), 0, 3);
        if constexpr (FETCH == BESIDE) __builtin_prefetch(beside + 64 * w, 0, 2);
        if constexpr (KIND == WIDE) {
            Floats part[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) part[v] = first_halves(load_words(weights[v] + step * w));
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = fma(part[v], number(rows[r][2 * w]), sum[r][v]);
            // The weights are loaded again: with them and both their parts in registers there are too few for the sums.
            asm volatile("" ::: "memory");
            UNROLL for (int v = 0; v < VECTORS; v++) part[v] = second_halves(load_words(weights[v] + step * w));
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++)
                    sum[r][v] = fma(part[v], number(rows[r][2 * w + 1]), sum[r][v]);
        } else {
            Ints column[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) column[v] = load_words(weights[v] + step * w);
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++) {
                    if constexpr (KIND == F32) sum[r][v] = fma(as_floats(column[v]), number(rows[r][w]), sum[r][v]);
                    else sum[r][v] = add_pairs(sum[r][v], column[v], broadcast_word(rows[r][w]));
                }
        }
    }
}

// The same with as many vectors at once as have room in registers.
template <int KIND, int ROWS, int VECTORS, Fetch FETCH = HERE>
inline void accumulate(
    Floats (&sum)[ROWS][VECTORS], const int32_t *const *rows, const char *const *weights, size_t step, int words,
    const char *beside = nullptr
) {
    constexpr int COLUMNS = std::min(VECTORS, columns_at_once(ROWS));
    if constexpr (COLUMNS == VECTORS) {
        accumulate_at_once<KIND, ROWS, VECTORS, FETCH>(sum, rows, weights, step, words, beside);
    } else {
        for (int first = 0; first < words; first += STRETCH) {
            const int some = std::min(STRETCH, words - first);
            const int32_t *some_rows[ROWS];
            UNROLL for (int r = 0; r < ROWS; r++) some_rows[r] = rows[r] + first * (KIND == WIDE ? 2 : 1);
            UNROLL for (int v = 0; v < VECTORS; v += COLUMNS) {
                Floats some_sums[ROWS][COLUMNS];
                const char *columns[COLUMNS];
                UNROLL for (int c = 0; c < COLUMNS; c++) columns[c] = weights[v + c] + step * first;
                UNROLL for (int r = 0; r < ROWS; r++)
                    UNROLL for (int c = 0; c < COLUMNS; c++) some_sums[r][c] = sum[r][v + c];
                const char *next = FETCH == BESIDE ? beside + 64 * first : nullptr;
                if (FETCH == BESIDE && v > 0)  // the first columns have asked for it
                    accumulate_at_once<KIND, ROWS, COLUMNS, HERE>(some_sums, some_rows, columns, step, some, next);
                else accumulate_at_once<KIND, ROWS, COLUMNS, FETCH>(some_sums, some_rows, columns, step, some, next);
                UNROLL for (int r = 0; r < ROWS; r++)
                    UNROLL for (int c = 0; c < COLUMNS; c++) sum[r][v + c] = some_sums[r][c];
            }
        }
    }
}

// Not inlined, so that nothing of its surroundings takes registers from it.
template <int KIND, int ROWS, Fetch FETCH>
[[gnu::noinline]] void float_tile(
    const char *panel, const Rows &x, const int *which, int inputs, float (*out)[PANEL], const char *beside
) {
    const int32_t *rows[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) rows[r] = x.row(which[r]);
    const char *weights[4] = {panel, panel + 64, panel + 128, panel + 192};
    Floats sum[ROWS][4];
    UNROLL for (auto &row : sum)
        UNROLL for (auto &v : row) v = zeros();
    accumulate<KIND, ROWS, 4, FETCH>(sum, rows, weights, 256, inputs / word_inputs(KIND), beside);
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < 4; v++) store(out[r] + 16 * v, sum[r][v]);
}

// The sixteen floats of 4 bit twice, so that they are whole numbers, and FP4_OFFSET more, so that none has a sign.
constexpr int FP4_OFFSET = 12;
alignas(16) constexpr uint8_t TWICE_FP4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

template <int KIND> inline Ints small_numbers(Ints halves) {
    if constexpr (KIND == MXFP4) return look_up(TWICE_FP4, halves);
    else return halves;
}

template <int KIND, int ROWS, Fetch FETCH>
[[gnu::noinline]] void integer_tile(
    const char *panel, size_t bytes, const Rows &x, const int *which, int inputs, float (*out)[PANEL]
) {
    // Weights are stored without a sign.
    constexpr int OFFSET = KIND == INT8 ? BYTE_OFFSET : KIND == MXFP4 ? FP4_OFFSET : 8;
    constexpr int COLUMNS = std::min(2, columns_at_once(ROWS));
    Floats sum[ROWS][4];
    UNROLL for (auto &row : sum)
        UNROLL for (auto &v : row) v = zeros();
    for (int g = 0; g < inputs / GROUP; g++) {
        const char *scales = panel + (KIND == INT8 ? GROUP * PANEL : GROUP * PANEL / 2);
        UNROLL for (int first = 0; first < 4; first += COLUMNS) {
            Ints whole[ROWS][COLUMNS];
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int c = 0; c < COLUMNS; c++)
                    whole[r][c] = broadcast_word(-OFFSET * x.sums[size_t(which[r]) * x.groups + g]);
            // Unrolled, it would need more registers than there are.
            _Pragma("GCC unroll 1") for (int w = 0; w < (KIND == INT8 ? 8 : 4); w++) {
                Ints column[COLUMNS];
                UNROLL for (int c = 0; c < COLUMNS; c++) {
                    const char *at = panel + 256 * w + 64 * (first + c);
                    if constexpr (FETCH == AHEAD_OF) __builtin_prefetch(at + 256 * AHEAD, 0, 3);
                    if constexpr (FETCH == BESIDE) __builtin_prefetch(at + bytes, 0, 2);
                    column[c] = load_words(at);
                }
                UNROLL for (int r = 0; r < ROWS; r++) {
                    if constexpr (KIND == INT8) {
                        const FourBytes four = x.four(which[r], g * 8 + w);
                        UNROLL for (int c = 0; c < COLUMNS; c++) whole[r][c] = add_bytes(whole[r][c], column[c], four);
                    } else {  // the first 16 inputs of the group, then the others
                        const int32_t *row = x.row(which[r]) + g * 8 + w;
                        const Ints word = broadcast_word(row[0]), later = broadcast_word(row[4]);
                        UNROLL for (int c = 0; c < COLUMNS; c++)
                            whole[r][c] = add_small_bytes(whole[r][c], small_numbers<KIND>(low_halves(column[c])), word);
                        UNROLL for (int c = 0; c < COLUMNS; c++)
                            whole[r][c] = add_small_bytes(whole[r][c], small_numbers<KIND>(high_halves(column[c])), later);
                    }
                }
            }
            UNROLL for (int c = 0; c < COLUMNS; c++) {
                const Floats scale = load_half(scales + 32 * (first + c));
                UNROLL for (int r = 0; r < ROWS; r++) {
                    const Floats of_row = broadcast(x.scales[size_t(which[r]) * x.groups + g]);
                    sum[r][first + c] = fma(to_floats(whole[r][c]) * scale, of_row, sum[r][first + c]);
                }
            }
        }
        panel = scales + 2 * PANEL;
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < 4; v++) store(out[r] + 16 * v, sum[r][v]);
}

// The `pass`-th use of a panel: at the first it comes from memory, at later ones memory is free to bring the next
// panel, of floats one vector of each word at a time, of whole numbers all.
template <int KIND, int ROWS>
inline void tile(
    int pass, const char *panel, size_t bytes, const Rows &x, const int *which, int inputs, float (*out)[PANEL]
) {
    if constexpr (is_float(KIND)) {
        const char *beside = panel + bytes + size_t(pass - 1) * (inputs / word_inputs(KIND)) * 64;
        if (pass == 0) float_tile<KIND, ROWS, AHEAD_OF>(panel, x, which, inputs, out, nullptr);
        else if (pass <= 4) float_tile<KIND, ROWS, BESIDE>(panel, x, which, inputs, out, beside);
        else float_tile<KIND, ROWS, HERE>(panel, x, which, inputs, out, nullptr);
    } else {
        if (pass == 0) integer_tile<KIND, ROWS, AHEAD_OF>(panel, bytes, x, which, inputs, out);
        else if (pass == 1) integer_tile<KIND, ROWS, BESIDE>(panel, bytes, x, which, inputs, out);
        else integer_tile<KIND, ROWS, HERE>(panel, bytes, x, which, inputs, out);
    }
}

}  // namespace troth
