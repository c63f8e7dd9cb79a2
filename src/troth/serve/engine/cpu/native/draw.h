// What is done with rows of scores. A token is drawn: temperature, then min-p, top-k and top-p, each over what the one
// before it left, as vLLM has it; then the first token, in the order of the vocabulary, up to which more than a uniform
// share of the weight lies. `drawer.py` says the same in torch.
//
// Not all is ever sorted. What top-k and top-p leave are the weights from some least one on; it is found bit by bit of
// its float32, with a sum over the weights for each, which the core's cache holds. A small top-k looks at few of them.
#pragma once
#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "buffers.h"

namespace troth {

constexpr float NEVER = -std::numeric_limits<float>::infinity();

// Makes impossible the tokens whose bit is not set, 32 of them in a word.
inline void mask(float *scores, const uint32_t *bits, int count) {
    const auto only = [](float score, uint32_t bit) { return bit & 1 ? score : NEVER; };
    const int whole = count / 32 * 32;
    for (int first = 0; first < whole; first += 32) {
        const uint32_t word = bits[first / 32];
        for (int i = 0; i < 32; i++) scores[first + i] = only(scores[first + i], word >> i);
    }
    for (int i = whole; i < count; i++) scores[i] = only(scores[i], bits[i / 32] >> (i % 32));
}

struct Draw {
    int32_t top_k;  // 0: all
    float temperature, top_p, min_p;
    double uniform;  // from 0 to below 1
};

class Choices {
  public:
    int draw(const float *scores, int count, const Draw &how) {
        take(scores, count);
        if (how.top_k > 0 && size_t(how.top_k) < peaks.size()) leave_few(how.top_k);
        weigh(how.temperature);
        const auto one = [](Floats) { return broadcast(1.f); };
        const auto itself = [](Floats weight) { return weight; };
        if (how.min_p > 0) cut(how.min_p);
        if (how.top_k > 0) cut(least(one, float(how.top_k)));
        if (how.top_p < 1) cut(least(itself, how.top_p * above_of(itself, 0)));
        const int place = pick(how.uniform);
        return tokens.empty() ? place : tokens[place];
    }

    // The logarithm of the sum of exponentials, and the `most` highest scores with their tokens, of equals the first.
    double likeliest(const float *scores, int count, int most, int32_t *ids, float *scores_of) {
        take(scores, count);
        Floats sum[4] = {zeros(), zeros(), zeros(), zeros()};
        for (size_t i = 0; i < weights.size(); i += STRETCH)
            UNROLL for (int v = 0; v < 4; v++)
                sum[v] = sum[v] + exp2((load(&weights[i + 16 * v]) - broadcast(highest)) * broadcast(LOG2E));
        const float all = sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
        if (most > 0 && size_t(most) < peaks.size()) leave_few(most);
        places.resize(tokens.empty() ? count : tokens.size());
        std::iota(places.begin(), places.end(), 0);
        std::partial_sort(places.begin(), places.begin() + most, places.end(), [&](int a, int b) {
            return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
        });
        for (int i = 0; i < most; i++) {
            scores_of[i] = weights[places[i]];
            ids[i] = tokens.empty() ? places[i] : tokens[places[i]];
        }
        return highest + std::log(double(all));
    }

  private:
    static constexpr int STRETCH = 64;

    // Whole stretches of scores, and the highest of each. What is no number is never drawn.
    void take(const float *scores, int count) {
        tokens.clear();
        peaks.clear();
        weights.resize(up_to(count, STRETCH));
        std::copy_n(scores, count, weights.begin());
        std::fill(weights.begin() + count, weights.end(), NEVER);
        for (size_t i = 0; i < weights.size(); i += STRETCH) {
            Floats most = broadcast(NEVER);
            UNROLL for (int v = 0; v < STRETCH; v += 16) {
                Floats x = load(&weights[i + v]);
                x = choose(at_least(x, broadcast(NEVER)), x, broadcast(NEVER));
                store(&weights[i + v], x);
                most = max(most, x);
            }
            peaks.push_back(largest_of(most));
        }
        highest = *std::max_element(peaks.begin(), peaks.end());
    }

    // Leaves the scores that reach the k-th highest peak, which are k or more and all that top-k may leave.
    void leave_few(int k) {
        some = peaks;
        std::nth_element(some.begin(), some.begin() + (k - 1), some.end(), std::greater<>());
        const float low = some[k - 1];
        for (size_t stretch = 0; stretch < peaks.size(); stretch++) {
            if (peaks[stretch] < low) continue;
            for (size_t i = stretch * STRETCH; i < (stretch + 1) * STRETCH; i++) {
                if (weights[i] < low) continue;
                weights[tokens.size()] = weights[i];
                tokens.push_back(int(i));
            }
        }
        weights.resize(up_to(int(tokens.size()), STRETCH));
        std::fill(weights.begin() + tokens.size(), weights.end(), NEVER);
    }

    // The likeliest gets a weight of 1, what has less than 2^-126 of it none.
    void weigh(float temperature) {
        const Floats factor = broadcast(std::min(LOG2E / temperature, 1e30f));
        for (size_t i = 0; i < weights.size(); i += 16) {
            const Floats x = (load(&weights[i]) - broadcast(highest)) * factor;
            store(&weights[i], choose(at_least(x, broadcast(-126.f)), exp2(x), zeros()));
        }
    }

    // The sum of `of` each weight above `limit`.
    template <class Of> float above_of(Of of, float limit) const {
        Floats sum[4] = {zeros(), zeros(), zeros(), zeros()};
        for (size_t i = 0; i < weights.size(); i += STRETCH)
            UNROLL for (int v = 0; v < 4; v++) {
                const Floats x = load(&weights[i + 16 * v]);
                sum[v] = sum[v] + choose(above(x, broadcast(limit)), of(x), zeros());
            }
        return sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }

    // The least number above which less than `limit` lies, at most 1. Floats from 0 on are in the order of their bits.
    template <class Of> float least(Of of, float limit) const {
        int32_t below = -1, found = std::bit_cast<int32_t>(1.f);
        while (found - below > 1) {
            const int32_t middle = below + (found - below) / 2;
            (above_of(of, std::bit_cast<float>(middle)) < limit ? found : below) = middle;
        }
        return std::bit_cast<float>(found);
    }

    void cut(float limit) {
        for (size_t i = 0; i < weights.size(); i += 16) {
            const Floats x = load(&weights[i]);
            store(&weights[i], choose(at_least(x, broadcast(limit)), x, zeros()));
        }
    }

    int pick(double uniform) {
        ends.clear();
        double total = 0;
        for (size_t i = 0; i < weights.size(); i += STRETCH) {
            Floats sum = zeros();
            UNROLL for (int v = 0; v < STRETCH; v += 16) sum = sum + load(&weights[i + v]);
            ends.push_back(total += sum_of(sum));
        }
        const double target = uniform * total;
        const size_t stretch = std::upper_bound(ends.begin(), ends.end() - 1, target) - ends.begin();
        double sum = stretch ? ends[stretch - 1] : 0;
        int last = 0;  // with rounding the last of the stretch that has a weight
        for (int i = int(stretch) * STRETCH, end = i + STRETCH; i < end; i++) {
            if (weights[i] <= 0) continue;
            last = i;
            if ((sum += weights[i]) > target) break;
        }
        return last;
    }

    float highest;
    std::vector<float> weights, peaks, some;  // scores before they are weighed; the highest of each stretch
    std::vector<int> tokens, places;  // whose weights these are, where few are left
    std::vector<double> ends;  // the sum up to the end of each stretch
};

}  // namespace troth
