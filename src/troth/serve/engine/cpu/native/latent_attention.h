// Attention over latents (DeepSeek-V2, 2405.04434, section 2.1): one key stands for all heads, and its beginning is the
// value, so that a token is kept once. The keys' layout has 16 tokens side by side, and so have the sums of weighted
// values: each lane adds up its tokens, and the lanes are added at the end. Runs are those of attention.h.
#pragma once
#include "attention.h"

namespace troth {

constexpr int MOST_LATENT = 512, MOST_KEY = MOST_LATENT + MOST_HEAD;

// sums[row][number of the latent] = fade * what they were, plus the run's weighted latents.
template <int KIND, int ROWS>
[[gnu::noinline]] void weigh_latents(
    float (*sums)[MOST_LATENT][BLOCK], const char (*weights)[RUN * 4], const float *fade, const Head &head, int latent,
    int begin, int end
) {
    constexpr int INPUTS = word_inputs(KIND), VECTOR = 16 * word_bytes(KIND);
    const char *keys[RUN / BLOCK];
    const int blocks = (end - begin + BLOCK - 1) / BLOCK;
    for (int b = 0; b < blocks; b++) keys[b] = head.keys + size_t(head.blocks[begin / BLOCK + b]) * head.step;
    for (int word = 0; word < latent / INPUTS; word++) {
        Floats sum[ROWS][INPUTS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int i = 0; i < INPUTS; i++)
                sum[r][i] = load(sums[r][word * INPUTS + i]) * broadcast(fade[r]);
        for (int b = 0; b < blocks; b++) {
            const char *key = keys[b] + VECTOR * word;
            Floats part[INPUTS];
            if constexpr (KIND == WIDE_INT8) part[0] = load_int8(key);
            else if constexpr (KIND == WIDE_FP8) part[0] = load_fp8_over_256(key);
            else if constexpr (KIND == F32) part[0] = as_floats(load_words(key));
            else {
                part[0] = first_halves(load_words(key));
                part[1] = second_halves(load_words(key));
            }
            UNROLL for (int r = 0; r < ROWS; r++) {
                const Floats weight = load(reinterpret_cast<const float *>(weights[r]) + b * BLOCK);
                UNROLL for (int i = 0; i < INPUTS; i++) sum[r][i] = fma(part[i], weight, sum[r][i]);
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int i = 0; i < INPUTS; i++) store(sums[r][word * INPUTS + i], sum[r][i]);
    }
}

// Scores of keys in 8 bit, whose latents and turned parts have scales of their own.
template <int KIND, int ROWS>
void scores_of_parts(const Query *queries, const Head &head, int latent, int begin, int end, float (*scores)[RUN]) {
    Head first = head, turned = head;
    first.size = latent;
    turned.size = head.size - latent;
    turned.keys += latent * BLOCK;
    turned.cold = false;
    Query later[ROWS];
    for (int r = 0; r < ROWS; r++) {
        later[r] = queries[r];
        later[r].words += latent;
    }
    alignas(64) float more[ROWS][RUN];
    scores_of<KIND, ROWS>(queries, first, begin, end, scores);
    scores_of<KIND, ROWS>(later, turned, begin, end, more);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < end - begin; i += BLOCK) {
            const Floats own = load(scores[r] + i) * head.scales(head.key_scales, begin + i);
            store(scores[r] + i, fma(load(more[r] + i), head.scales(head.key_scales + BLOCK, begin + i), own));
        }
}

// Each query's weighted sum of latents, of `latent` numbers; KIND is none of PAIRS.
template <int KIND, int ROWS>
void attend_latents(const Query *queries, const Head &head, int latent, const Scoring &scoring) {
    alignas(64) thread_local static float sums[TILE][MOST_LATENT][BLOCK];
    alignas(64) float scores[ROWS][RUN];
    alignas(64) char weights[ROWS][RUN * 4];
    for (int r = 0; r < ROWS; r++) std::memset(sums[r], 0, sizeof(float) * BLOCK * latent);
    Running<ROWS> softmax(queries);
    const auto [low, high] = seen_by(queries, ROWS);
    for (int run = low / RUN * RUN; run <= high; run += RUN) {
        const int begin = std::max(run, low / BLOCK * BLOCK), end = std::min(run + RUN, high + 1);
        if constexpr (is_byte(KIND)) scores_of_parts<KIND, ROWS>(queries, head, latent, begin, end, scores);
        else scores_of<KIND, ROWS>(queries, head, begin, end, scores);
        softmax.template soften<KIND, false>(queries, head, scoring, begin, end, scores, weights);
        weigh_latents<KIND, ROWS>(sums, weights, softmax.fade, head, latent, begin, end);
    }
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < latent; i++)
            queries[r].out[i] = sum_of(load(sums[r][i])) / softmax.total[r];
}

template <int KIND, int ROWS = TILE>
void attend_latent_rows(int rows, const Query *queries, const Head &head, int latent, const Scoring &scoring) {
    if constexpr (ROWS > 1) {
        if (rows < ROWS) return attend_latent_rows<KIND, ROWS - 1>(rows, queries, head, latent, scoring);
    }
    attend_latents<KIND, ROWS>(queries, head, latent, scoring);
}

}  // namespace troth
