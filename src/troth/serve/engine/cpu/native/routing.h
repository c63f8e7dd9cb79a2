// Which experts a token goes to, and with what gates: `model/moe.py` says the same in torch.
#pragma once
#include <algorithm>
#include <limits>

#include "decoder.h"

namespace troth {

// The places of the `count` largest numbers, the largest first, of equals the first.
inline void largest(const float *x, int size, int count, int *places) {
    int found = 0;
    for (int i = 0; i < size; i++) {
        if (found == count && !(x[i] > x[places[found - 1]])) continue;
        int at = found < count ? found++ : count - 1;
        for (; at > 0 && x[i] > x[places[at - 1]]; at--) places[at] = places[at - 1];
        places[at] = i;
    }
}

constexpr int MOST_EXPERTS = 1024;

// From the router's scores, which are changed, to `top_k` experts and their gates.
inline void route(const Model &model, const float *bias, float *scores, int experts, int *chosen, float *gates) {
    float preferred[MOST_EXPERTS];
    float most = -std::numeric_limits<float>::infinity(), total = 0;
    for (int e = 0; e < experts; e++) {
        if (model.router_softcap > 0) scores[e] = model.router_softcap * std::tanh(scores[e] / model.router_softcap);
        most = std::max(most, scores[e]);
    }
    for (int e = 0; e < experts; e++) {
        scores[e] = model.softmax_router ? std::exp(scores[e] - most) : 1.f / (1.f + std::exp(-scores[e]));
        total += scores[e];
    }
    for (int e = 0; e < experts; e++) {
        if (model.softmax_router) scores[e] /= total;
        preferred[e] = scores[e] + bias[e];
    }
    if (model.groups > 1) {
        const int size = experts / model.groups;
        float best[MOST_EXPERTS];
        int order[MOST_EXPERTS], two[2];
        for (int g = 0; g < model.groups; g++) {
            largest(preferred + g * size, size, std::min(2, size), two);
            best[g] = preferred[g * size + two[0]] + (size > 1 ? preferred[g * size + two[1]] : 0.f);
        }
        largest(best, model.groups, model.groups, order);
        for (int g = model.top_groups; g < model.groups; g++)
            std::fill_n(preferred + order[g] * size, size, -std::numeric_limits<float>::infinity());
    }
    largest(preferred, experts, model.top_k, chosen);
    float sum = 0;
    for (int j = 0; j < model.top_k; j++) sum += gates[j] = scores[chosen[j]];
    const float factor = (model.normalised_gates ? 1.f / (sum + 1e-20f) : 1.f) * model.route_scale;
    for (int j = 0; j < model.top_k; j++) gates[j] *= factor;
}

}  // namespace troth
