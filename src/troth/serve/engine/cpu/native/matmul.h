// Rows times packed weights. A weight [outputs, inputs] lies in panels of 64 outputs; a panel is one run of memory that
// is read once from front to back, four vectors at a time, each with one word of 16 outputs. A word is 4 bytes: one
// float32, two bfloat16 or four 8-bit numbers.
//
// bfloat16 weights are multiplied in one of two ways: with rows in bfloat16 by the processor's own products (PAIRS),
// or widened, with rows in float32 (WIDE). The first does twice as much at once on some processors (AMD since Zen 4),
// and half as much on others (Intel without AMX in use).
//
// Every output is one sum in the order of the inputs, in an accumulator of its own (8 and 4 bit: a sum of whole numbers
// for each 32 inputs, then these in order). So no result depends on how many rows are computed together.
#pragma once
#include "simd.h"

// Before loops over sums: where GCC does not unroll them early, it keeps the sums in memory and not in registers.
#define UNROLL _Pragma("GCC unroll 8")

namespace troth {

// Of weights the first five, of keys and values the first three and the last two, which are 8-bit numbers widened like
// WIDE, one in a word: a vector then has 16 bytes.
enum Kind : int32_t { F32 = 0, PAIRS = 1, WIDE = 2, INT8 = 3, INT4 = 4, WIDE_INT8 = 5, WIDE_FP8 = 6 };

constexpr bool is_float(int kind) { return kind <= WIDE; }
constexpr bool is_byte(int kind) { return kind == WIDE_INT8 || kind == WIDE_FP8; }
constexpr bool rows_are_float(int kind) { return kind == F32 || kind == WIDE || is_byte(kind); }
constexpr int word_bytes(int kind) { return is_byte(kind) ? 1 : 4; }
constexpr int word_inputs(int kind) { return kind == PAIRS || kind == WIDE ? 2 : 1; }

constexpr int PANEL = 64, GROUP = 32;
constexpr int TILE = 6;    // rows that are multiplied at a time: their sums stay in registers
constexpr int AHEAD = 24;  // words of a panel that are asked for before they are needed, where it comes from memory

struct Adapter;

struct Matrix {
    const char *data;  // panels; for INT8 and INT4 each group of inputs is followed by its 64 scales in float16
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
// numbers with a scale and a sum for each group of 32.
struct Rows {
    char *words = nullptr;
    float *scales = nullptr;
    int32_t *sums = nullptr;
    size_t stride = 0;  // bytes of a row
    int groups = 0;     // of a row

    const int32_t *row(int i) const { return reinterpret_cast<const int32_t *>(words + size_t(i) * stride); }

    // Puts 32 numbers at place `at` of row i.
    void put32(int kind, int i, int at, __m512 a, __m512 b) const {
        char *row = words + size_t(i) * stride;
        if (rows_are_float(kind)) {
            _mm512_storeu_ps(reinterpret_cast<float *>(row) + at, a);
            _mm512_storeu_ps(reinterpret_cast<float *>(row) + at + 16, b);
        } else if (kind == PAIRS) {
            store_bf16(reinterpret_cast<uint16_t *>(row) + at, a);
            store_bf16(reinterpret_cast<uint16_t *>(row) + at + 16, b);
        } else {
            float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
            __m512 inverse = _mm512_set1_ps(most > 0 ? 127.f / most : 0.f);
            __m512i p = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), q = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
            _mm_storeu_si128(reinterpret_cast<__m128i *>(row + at), _mm512_cvtsepi32_epi8(p));
            _mm_storeu_si128(reinterpret_cast<__m128i *>(row + at + 16), _mm512_cvtsepi32_epi8(q));
            scales[size_t(i) * groups + at / GROUP] = most / 127.f;
            sums[size_t(i) * groups + at / GROUP] = _mm512_reduce_add_epi32(_mm512_add_epi32(p, q));
        }
    }

    // Puts a row of `size` numbers, a multiple of 32.
    void put(int kind, int i, const float *x, int size) const {
        for (int at = 0; at < size; at += 32) put32(kind, i, at, _mm512_loadu_ps(x + at), _mm512_loadu_ps(x + at + 16));
    }
};

inline __m512 broadcast(int32_t word) { return _mm512_castsi512_ps(_mm512_set1_epi32(word)); }

enum Fetch { HERE, AHEAD_OF, BESIDE };

// sum[row][vector] += the products of rows with `words` vectors of weights that lie `step` bytes apart. Meanwhile
// memory is asked for what comes AHEAD_OF these weights, or for what is needed later and lies `beside`.
template <int KIND, int ROWS, int VECTORS, Fetch FETCH = HERE>
inline void accumulate(
    __m512 (&sum)[ROWS][VECTORS], const int32_t *const *rows, const char *const *weights, size_t step, int words,
    const char *beside = nullptr
) {
    for (int w = 0; w < words; w++) {
        if constexpr (is_byte(KIND)) {
            __m512 part[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++)
                part[v] = (KIND == WIDE_INT8 ? load_int8 : load_fp8_over_256)(weights[v] + step * w);
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_fmadd_ps(part[v], broadcast(rows[r][w]), sum[r][v]);
            continue;
        }
        if constexpr (FETCH == AHEAD_OF)
            UNROLL for (int v = 0; v < VECTORS; v++) _mm_prefetch(weights[v] + step * (w + AHEAD), _MM_HINT_T0);
        if constexpr (FETCH == BESIDE) _mm_prefetch(beside + 64 * w, _MM_HINT_T1);
        if constexpr (KIND == WIDE) {
            __m512 part[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++)
                part[v] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(weights[v] + step * w), 16));
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_fmadd_ps(part[v], broadcast(rows[r][2 * w]), sum[r][v]);
            // The weights are loaded again: with them and both their parts in registers there are too few for the sums.
            asm volatile("" ::: "memory");
            const __m512i high = _mm512_set1_epi32(0xffff0000);
            UNROLL for (int v = 0; v < VECTORS; v++)
                part[v] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(weights[v] + step * w), high));
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++)
                    sum[r][v] = _mm512_fmadd_ps(part[v], broadcast(rows[r][2 * w + 1]), sum[r][v]);
        } else {
            __m512i column[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) column[v] = _mm512_loadu_si512(weights[v] + step * w);
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++) {
                    const __m512 x = broadcast(rows[r][w]);
                    if constexpr (KIND == F32) sum[r][v] = _mm512_fmadd_ps(_mm512_castsi512_ps(column[v]), x, sum[r][v]);
                    else sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)column[v], (__m512bh)x);
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
    __m512 sum[ROWS][4];
    UNROLL for (auto &row : sum)
        UNROLL for (auto &v : row) v = _mm512_setzero_ps();
    accumulate<KIND, ROWS, 4, FETCH>(sum, rows, weights, 256, inputs / word_inputs(KIND), beside);
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < 4; v++) _mm512_storeu_ps(out[r] + 16 * v, sum[r][v]);
}

template <int KIND, int ROWS, Fetch FETCH>
[[gnu::noinline]] void integer_tile(
    const char *panel, size_t bytes, const Rows &x, const int *which, int inputs, float (*out)[PANEL]
) {
    constexpr int OFFSET = KIND == INT8 ? 128 : 8;  // weights are stored without a sign
    const auto fetch = [bytes](const char *at) {
        for (int line = 0; line < 128; line += 64)
            if constexpr (FETCH == AHEAD_OF) _mm_prefetch(at + 256 * AHEAD + line, _MM_HINT_T0);
            else if constexpr (FETCH == BESIDE) _mm_prefetch(at + bytes + line, _MM_HINT_T1);
    };
    const __m512i low = _mm512_set1_epi8(15);
    __m512 sum[ROWS][4];
    UNROLL for (auto &row : sum)
        UNROLL for (auto &v : row) v = _mm512_setzero_ps();
    for (int g = 0; g < inputs / GROUP; g++) {
        const char *scales = panel + (KIND == INT8 ? GROUP * PANEL : GROUP * PANEL / 2);
        UNROLL for (int half = 0; half < 2; half++) {
            __m512i whole[ROWS][2];
            UNROLL for (int r = 0; r < ROWS; r++)
                whole[r][0] = whole[r][1] = _mm512_set1_epi32(-OFFSET * x.sums[size_t(which[r]) * x.groups + g]);
            if constexpr (KIND == INT8) {
                for (int w = 0; w < 8; w++) {
                    const char *at = panel + 256 * w + 128 * half;
                    fetch(at);
                    __m512i a = _mm512_loadu_si512(at), b = _mm512_loadu_si512(at + 64);
                    UNROLL for (int r = 0; r < ROWS; r++) {
                        __m512i word = _mm512_set1_epi32(x.row(which[r])[g * 8 + w]);
                        whole[r][0] = _mm512_dpbusd_epi32(whole[r][0], a, word);
                        whole[r][1] = _mm512_dpbusd_epi32(whole[r][1], b, word);
                    }
                }
            } else {  // the low halves of a byte hold the first 16 inputs of the group, the high halves the others
                for (int w = 0; w < 4; w++) {
                    const char *at = panel + 256 * w + 128 * half;
                    fetch(at);
                    __m512i a = _mm512_loadu_si512(at), b = _mm512_loadu_si512(at + 64);
                    UNROLL for (int r = 0; r < ROWS; r++) {
                        __m512i word = _mm512_set1_epi32(x.row(which[r])[g * 8 + w]);
                        __m512i later = _mm512_set1_epi32(x.row(which[r])[g * 8 + w + 4]);
                        whole[r][0] = _mm512_dpbusd_epi32(whole[r][0], _mm512_and_si512(a, low), word);
                        whole[r][1] = _mm512_dpbusd_epi32(whole[r][1], _mm512_and_si512(b, low), word);
                        __m512i c = _mm512_and_si512(_mm512_srli_epi16(a, 4), low);
                        __m512i d = _mm512_and_si512(_mm512_srli_epi16(b, 4), low);
                        whole[r][0] = _mm512_dpbusd_epi32(whole[r][0], c, later);
                        whole[r][1] = _mm512_dpbusd_epi32(whole[r][1], d, later);
                    }
                }
            }
            UNROLL for (int v = 0; v < 2; v++) {
                const void *at = scales + 64 * half + 32 * v;
                __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i *>(at)));
                UNROLL for (int r = 0; r < ROWS; r++) {
                    __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[r][v]), scale);
                    __m512 of_row = _mm512_set1_ps(x.scales[size_t(which[r]) * x.groups + g]);
                    sum[r][2 * half + v] = _mm512_fmadd_ps(scaled, of_row, sum[r][2 * half + v]);
                }
            }
        }
        panel = scales + 2 * PANEL;
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < 4; v++) _mm512_storeu_ps(out[r] + 16 * v, sum[r][v]);
}

// The `pass`-th use of a panel: at the first it comes from memory, at later ones memory is free to bring the next panel,
// of floats one vector of each word at a time, of whole numbers all.
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

template <int KIND, class Emit>
void panel_of(const Matrix &w, int panel, const Rows &x, const int *which, int count, Emit emit) {
    alignas(64) float out[TILE][PANEL];
    const char *data = w.panel(panel);
    const size_t bytes = w.panel_bytes();
    // About as many rows at each use of the panel: the fewer there are, the longer one takes.
    const int passes = (count + TILE - 1) / TILE;
    for (int pass = 0, at = 0, rows; pass < passes; pass++, at += rows) {
        rows = (count - at + passes - pass - 1) / (passes - pass);
        switch (rows) {
            case 1: tile<KIND, 1>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 2: tile<KIND, 2>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 3: tile<KIND, 3>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 4: tile<KIND, 4>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 5: tile<KIND, 5>(pass, data, bytes, x, which + at, w.inputs, out); break;
            default: tile<KIND, 6>(pass, data, bytes, x, which + at, w.inputs, out);
        }
        for (int r = 0; r < rows; r++) {
            if (w.bias)
                UNROLL for (int v = 0; v < 4; v++)
                    _mm512_store_ps(out[r] + 16 * v, _mm512_add_ps(_mm512_load_ps(out[r] + 16 * v),
                                                                   _mm512_loadu_ps(w.bias + panel * PANEL + 16 * v)));
            emit(at + r, out[r]);
        }
    }
}

// One panel of outputs for `count` rows of x, whose numbers are in `which`: emit(i, 64 floats) for each.
template <class Emit>
void multiply(const Matrix &w, int panel, const Rows &x, const int *which, int count, Emit emit) {
    switch (w.kind) {
        case F32: return panel_of<F32>(w, panel, x, which, count, emit);
        case PAIRS: return panel_of<PAIRS>(w, panel, x, which, count, emit);
        case WIDE: return panel_of<WIDE>(w, panel, x, which, count, emit);
        case INT8: return panel_of<INT8>(w, panel, x, which, count, emit);
        default: return panel_of<INT4>(w, panel, x, which, count, emit);
    }
}

}  // namespace troth
