// Attention of a few queries over blocks of 16 tokens, in one pass with a running softmax (FlashAttention, 2205.14135).
//
// Blocks are laid out for products without sums across lanes: keys as words of a head's numbers for 16 tokens side by
// side, values as words of tokens for a head's numbers side by side. Keys are taken in runs of 256 tokens that begin at
// multiples of 256, so that a query's result depends on its position and not on how its prompt was cut or batched.
// In 8 bit a token's scales multiply its score and its weight.
#pragma once
#include <algorithm>
#include <limits>
#include <utility>

#include "matmul.h"

namespace troth {

constexpr int BLOCK = 16, RUN = 256, MOST_HEAD = 256;

struct Scoring {
    float scale, softcap;  // softcap 0: none
};

// One query head at one position: `low` to `high` are the positions that it sees, both included.
struct Query {
    const int32_t *words;
    float *out;  // [head size]
    int low, high;
    float temperature;
    float sink;  // a score without a value, or -inf
};

// Keys and values of one head: block b begins at `keys + b * step`, its scales at `key_scales + b * scale_step`.
struct Head {
    const char *keys, *values;
    const float *key_scales, *value_scales;  // in 8 bit
    size_t step, scale_step;
    const int32_t *blocks;
    int size;
    bool cold;  // whether it is read once, so that memory is worth asking early

    void fetch(const char *part, int block, int bytes) const {
        const char *from = part + size_t(blocks[block]) * step;
        for (int at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 3);
    }

    Floats scales(const float *part, int position) const {
        return load(part + size_t(blocks[position / BLOCK]) * scale_step);
    }
};

template <int KIND, int ROWS>
[[gnu::noinline]] void scores_of(const Query *queries, const Head &head, int begin, int end, float (*scores)[RUN]) {
    constexpr int VECTOR = 16 * word_bytes(KIND);
    const int words = head.size / word_inputs(KIND);
    const int32_t *rows[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) rows[r] = queries[r].words;
    const int last = (end - 1) / BLOCK;
    for (int at = begin; at < end; at += 64) {
        const char *blocks[4];
        UNROLL for (int b = 0; b < 4; b++) {  // behind the end the last block stands in, unread
            const int block = at / BLOCK + b;
            blocks[b] = head.keys + size_t(head.blocks[std::min(block, last)]) * head.step;
            if (!head.cold) continue;
            if (block + 4 <= last) head.fetch(head.keys, block + 4, words * VECTOR);
            if (block <= last) head.fetch(head.values, block, words * VECTOR);
        }
        Floats sum[ROWS][4];
        UNROLL for (auto &row : sum)
            UNROLL for (auto &v : row) v = zeros();
        accumulate<KIND, ROWS, 4>(sum, rows, blocks, VECTOR, words);
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int b = 0; b < 4; b++) store(scores[r] + (at - begin) + 16 * b, sum[r][b]);
    }
}

template <int KIND, int ROWS, int VECTORS>
[[gnu::noinline]] void weigh(
    float (*out)[MOST_HEAD], const char (*weights)[RUN * 4], const float *fade, const Head &head, int begin, int end,
    int at
) {
    constexpr int WORD = word_bytes(KIND), WORDS = BLOCK / word_inputs(KIND);
    Floats sum[ROWS][VECTORS];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < VECTORS; v++)
            sum[r][v] = load(out[r] + at + 16 * v) * broadcast(fade[r]);
    for (int block = begin / BLOCK; block * BLOCK < end; block++) {
        const char *base = head.values + size_t(head.blocks[block]) * head.step + WORD * at;
        const char *columns[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) columns[v] = base + 16 * WORD * v;
        const int32_t *rows[ROWS];
        UNROLL for (int r = 0; r < ROWS; r++) {
            const int at = (block - begin / BLOCK) * BLOCK;
            rows[r] = reinterpret_cast<const int32_t *>(weights[r]) + (rows_are_float(KIND) ? at : at / 2);
        }
        accumulate<KIND, ROWS, VECTORS>(sum, rows, columns, size_t(head.size) * WORD, WORDS);
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < VECTORS; v++) store(out[r] + at + 16 * v, sum[r][v]);
}

// What the softmax of each query has seen so far.
template <int ROWS> struct Running {
    float most[ROWS], total[ROWS], fade[ROWS];

    explicit Running(const Query *queries) {
        for (int r = 0; r < ROWS; r++) {
            most[r] = queries[r].sink * LOG2E;
            total[r] = queries[r].sink > -std::numeric_limits<float>::infinity() ? 1.f : 0.f;
        }
    }

    // Makes the scores of a run weights of its values; what was summed before is to be multiplied with `fade`.
    template <int KIND, bool SCALES = is_byte(KIND)>
    void soften(
        const Query *queries, const Head &head, const Scoring &scoring, int begin, int end, float (*scores)[RUN],
        char (*weights)[RUN * 4]
    ) {
        const Floats lanes = counted(), nothing = broadcast(-std::numeric_limits<float>::infinity());
        const int padded = (end - begin + BLOCK - 1) / BLOCK * BLOCK;
        for (int r = 0; r < ROWS; r++) {
            const Query &query = queries[r];
            Floats first = broadcast(float(query.low - begin)), last = broadcast(float(query.high - begin));
            Floats highest = nothing;
            for (int i = 0; i < padded; i += 16) {
                Floats x = load(scores[r] + i) * broadcast(scoring.scale);
                if constexpr (SCALES) x = x * head.scales(head.key_scales, begin + i);
                if (scoring.softcap > 0) {
                    Floats cap = broadcast(scoring.softcap);
                    x = cap * tanh(x / cap);
                }
                x = x * broadcast(query.temperature * LOG2E);
                const Floats at = lanes + broadcast(float(i));
                x = choose(both(at_least(at, first), at_least(last, at)), x, nothing);
                store(scores[r] + i, x);
                highest = max(highest, x);
            }
            float now = std::max(most[r], largest_of(highest));
            // Where nothing was seen yet there is nothing to fade, and -inf - -inf would be no number.
            const bool none = now == -std::numeric_limits<float>::infinity();
            fade[r] = none ? 1.f : exp2f(most[r] - now);
            Floats base = broadcast(none ? 0.f : now), sum = zeros();
            for (int i = 0; i < padded; i += 16) {
                const Floats x = load(scores[r] + i);
                Floats p = choose(above(x, nothing), exp2(x - base), zeros());
                sum = sum + p;
                if constexpr (is_byte(KIND)) p = p * head.scales(head.value_scales, begin + i);
                if constexpr (rows_are_float(KIND)) store(reinterpret_cast<float *>(weights[r]) + i, p);
                else store_bf16(reinterpret_cast<uint16_t *>(weights[r]) + i, p);
            }
            total[r] = std::fma(total[r], fade[r], sum_of(sum));
            most[r] = now;
        }
    }
};

// The positions that any of the queries sees.
inline std::pair<int, int> seen_by(const Query *queries, int rows) {
    int low = queries[0].low, high = queries[0].high;
    for (int r = 1; r < rows; r++) {
        low = std::min(low, queries[r].low);
        high = std::max(high, queries[r].high);
    }
    return {low, high};
}

template <int KIND, int ROWS> void attend(const Query *queries, const Head &head, const Scoring &scoring) {
    alignas(64) float scores[ROWS][RUN];
    alignas(64) char weights[ROWS][RUN * 4];
    alignas(64) float out[ROWS][MOST_HEAD];
    for (auto &row : out) std::memset(row, 0, sizeof(float) * head.size);
    Running<ROWS> softmax(queries);
    const auto [low, high] = seen_by(queries, ROWS);
    for (int run = low / RUN * RUN; run <= high; run += RUN) {
        const int begin = std::max(run, low / BLOCK * BLOCK), end = std::min(run + RUN, high + 1);
        scores_of<KIND, ROWS>(queries, head, begin, end, scores);
        softmax.template soften<KIND>(queries, head, scoring, begin, end, scores, weights);
        const float *fade = softmax.fade;
        int at = 0;
        for (; at + 64 <= head.size; at += 64) weigh<KIND, ROWS, 4>(out, weights, fade, head, begin, end, at);
        if (head.size - at >= 32) weigh<KIND, ROWS, 2>(out, weights, fade, head, begin, end, at), at += 32;
        if (head.size - at >= 16) weigh<KIND, ROWS, 1>(out, weights, fade, head, begin, end, at);
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < head.size; i += 16)
            store(queries[r].out + i, load(out[r] + i) / broadcast(softmax.total[r]));
}

template <int KIND> void attend_rows(int rows, const Query *queries, const Head &head, const Scoring &scoring) {
    switch (rows) {
        case 1: return attend<KIND, 1>(queries, head, scoring);
        case 2: return attend<KIND, 2>(queries, head, scoring);
        case 3: return attend<KIND, 3>(queries, head, scoring);
        case 4: return attend<KIND, 4>(queries, head, scoring);
        case 5: return attend<KIND, 5>(queries, head, scoring);
        default: return attend<KIND, 6>(queries, head, scoring);
    }
}

}  // namespace troth
