// What the library exports: plain C, called from `library.py`.
#include <chrono>

#include "step.h"

#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace troth {
namespace {

#ifdef __AVX512VNNI__
bool has_pairs() { return __builtin_cpu_supports("avx512bf16"); }

// The shortest of many runs each, so that other programs change nothing.
bool pairs_are_faster() {
    if (!has_pairs()) return false;
    const __m512 one = _mm512_set1_ps(1.f);
    auto shortest = [&](auto product) {
        auto best = std::chrono::nanoseconds::max();
        for (int run = 0; run < 50; run++) {
            __m512 sum[16];
            for (auto &x : sum) x = _mm512_setzero_ps();
            const auto start = std::chrono::steady_clock::now();
            for (int i = 0; i < 500; i++)
                for (auto &x : sum) {
                    x = product(x);
                    asm volatile("" : "+v"(x));
                }
            const auto took = std::chrono::steady_clock::now() - start;
            best = std::min(best, std::chrono::duration_cast<std::chrono::nanoseconds>(took));
        }
        return best;
    };
    const __m512i ones = _mm512_castps_si512(one);
    const auto pairs = shortest([&](__m512 x) { return add_pairs(x, ones, ones); });
    return pairs < 2 * shortest([&](__m512 x) { return _mm512_fmadd_ps(one, one, x); });
}
#else
bool has_pairs() { return true; }
bool pairs_are_faster() { return false; }
#endif

#ifdef __AVX512F__
bool supported() {
#ifdef __AVX512VNNI__
    if (!__builtin_cpu_supports("avx512vnni")) return false;
#endif
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#elif defined(__aarch64__)
bool supported() {
#ifndef __ARM_FEATURE_DOTPROD
    return true;
#elif defined(__APPLE__)
    int found = 0;
    size_t size = sizeof(found);
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, nullptr, 0) == 0 && found;
#else
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#endif
}
#else
// What has these has the conversions of float16 too.
bool supported() {
#ifdef __AVXVNNI__
    if (!__builtin_cpu_supports("avxvnni")) return false;
#endif
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

}  // namespace
}  // namespace troth

extern "C" {

// Whether this processor has what the products are made of.
int troth_supported() { return troth::supported(); }

// Whether bfloat16 can be multiplied in PAIRS, by an instruction or as if by one.
int troth_has_pairs() { return troth::has_pairs(); }

// Whether bfloat16 products are best done in PAIRS: whether one of them takes less than twice a float32 product's time.
int troth_pairs_are_faster() { return troth::pairs_are_faster(); }

// What the other side must mean too: the number of this interface, and the sizes of its structures.
int troth_version() { return troth::VERSION; }

void troth_sizes(int32_t *sizes) {
    sizes[0] = sizeof(troth::Matrix), sizes[1] = sizeof(troth::Unit), sizes[2] = sizeof(troth::Latents);
    sizes[3] = sizeof(troth::Layer), sizes[4] = sizeof(troth::Model), sizes[5] = sizeof(troth::Span);
    sizes[6] = sizeof(troth::Adapter), sizes[7] = sizeof(troth::Draw);
}

void *troth_open(const troth::Model *model, int most_rows, int threads) {
    return new troth::Decoder(*model, most_rows, threads);
}

void troth_close(void *decoder) { delete static_cast<troth::Decoder *>(decoder); }

// Scores [wants, vocabulary] of the wanted rows, where `logits` is not null; states [rows, hidden] of all rows, where
// `states` is not null; the experts of the wanted rows and their gates, both [layers, wants, top_k], where `experts` is
// not null. `given` are the states [rows, hidden] that a module of multi-token prediction goes on from, else null.
void troth_step(
    void *decoder, const int32_t *tokens, int rows, const float *given, const troth::Span *spans, int count,
    const int32_t *wanted, int wants, float *logits, float *states, int32_t *experts, float *gates
) {
    static_cast<troth::Decoder *>(decoder)->step(
        tokens, rows, given, spans, count, wanted, wants, logits, states, experts, gates
    );
}

// Of each row of scores the logarithm of the sum of its exponentials, and its `most` highest scores [rows, most] with
// their tokens.
void troth_likeliest(
    void *decoder, const float *scores, int stride, int vocabulary, int rows, int most, double *sums, int32_t *tokens,
    float *highest
) {
    static_cast<troth::Decoder *>(decoder)->likeliest(scores, stride, vocabulary, rows, most, sums, tokens, highest);
}

// Makes impossible, of a row of scores, the tokens whose bit is not set.
void troth_mask(float *scores, const uint32_t *bits, int count) { troth::mask(scores, bits, count); }

// A token drawn from each row of scores over a vocabulary; the rows lie `stride` numbers apart.
void troth_draw(
    void *decoder, const float *scores, int stride, int vocabulary, const troth::Draw *how, int rows, int32_t *tokens
) {
    static_cast<troth::Decoder *>(decoder)->draw(scores, stride, vocabulary, how, rows, tokens);
}
}
